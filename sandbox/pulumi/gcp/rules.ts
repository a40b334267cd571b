/** The simulated Google Cloud: what holds for all of its types. Ids are paths below the project. */
import { CloudError } from '../cloud-error.ts';
import { loadTable } from '../tables/table.ts';
import type { FillRequest, PackageRules, ResourceRules, Scene } from '../cloud-rules.ts';
import { autoName, hashHex, newDigits, seededHex } from '../names.ts';
import { getPath, objectOf, textOf, withPath, type Properties, asText } from '../properties.ts';
import { INSTANCE_RULES } from './compute.ts';
import { gcpError, gcpOperationError } from './errors.ts';
import { GCP_ACCESS_RULES } from './access.ts';
import { GCP_NETWORK_RULES } from './network.ts';
import { PROJECT_NUMBER, regionOfZone, zonesOfRegion } from './places.ts';

const TYPES: Readonly<Record<string, ResourceRules>> = { ...GCP_NETWORK_RULES, ...INSTANCE_RULES, ...GCP_ACCESS_RULES };

/** Where a type lies, and its plural in paths. */
const PLACES: Record<string, readonly ['zones' | 'regions' | 'global', string]> = {
  'gcp:compute/instance:Instance': ['zones', 'instances'],
  'gcp:compute/disk:Disk': ['zones', 'disks'],
  'gcp:compute/regionDisk:RegionDisk': ['regions', 'disks'],
  'gcp:compute/router:Router': ['regions', 'routers'],
  'gcp:compute/network:Network': ['global', 'networks'],
  'gcp:compute/firewall:Firewall': ['global', 'firewalls'],
  'gcp:compute/instanceTemplate:InstanceTemplate': ['global', 'instanceTemplates'],
  'gcp:compute/subnetwork:Subnetwork': ['regions', 'subnetworks'],
  'gcp:compute/address:Address': ['regions', 'addresses'],
  'gcp:compute/resourcePolicy:ResourcePolicy': ['regions', 'resourcePolicies'],
};

export const GCP_RULES: PackageRules = {
  name: 'gcp',
  types: Object.fromEntries(Object.entries(TYPES).map(([type, rules]) => [type, withPlace(type, rules)])),
  commonReplaceOn: ['project', 'zone', 'region'],
  readConfig(args) {
    const zone = textOf(args.zone);
    return { ...args, zone, region: textOf(args.region) ?? (zone === undefined ? undefined : regionOfZone(zone)) };
  },
  scopeOf: () => '',
  fillInputs,
  knownOutputs(type, inputs, { config }) {
    const labels = { ...objectOf(config.defaultLabels), ...objectOf(inputs.labels) };
    const place = PLACES[type]?.[0];
    const self = selfPath(type, inputs, config);
    return {
      project: textOf(inputs.project) ?? config.project,
      ...(place === 'zones' ? { zone: textOf(inputs.zone) ?? config.zone } : {}),
      ...(place === 'regions' ? { region: textOf(inputs.region) ?? config.region } : {}),
      ...(place === undefined || self === undefined
        ? {}
        : { selfLink: `https://www.googleapis.com/compute/v1/${self}` }),
      effectiveLabels: { ...labels, 'goog-pulumi-provisioned': 'true' },
      pulumiLabels: { ...labels, 'goog-pulumi-provisioned': 'true' },
    };
  },
  defaultId: (type, inputs, { config }, logicalName) =>
    selfPath(type, inputs, config) ??
    `projects/${asText(textOf(inputs.project) ?? config.project)}/${asText(inputs.name ?? logicalName)}`,
  makeOutput({ property, kind, id, scene }) {
    if (property === 'creationTimestamp') return new Date(scene.now()).toISOString();
    if (/fingerprint/i.test(property)) return Buffer.from(hashHex(`${id} ${property}`, 8)).toString('base64');
    if (property.endsWith('Id') && kind === 'string') return newDigits(19);
    if (kind.startsWith('[')) return [];
    return { string: '', number: 0, boolean: false }[kind] ?? {};
  },
  faultError(fault, { type, operation, name, inputs }) {
    const noun = type.split(':').at(-1)!;
    const what = `Error ${operation === 'create' ? 'creating' : operation === 'delete' ? 'deleting' : 'updating'} ${noun}`;
    switch (fault.kind) {
      case 'throttled':
        return gcpError(
          what,
          403,
          'rateLimitExceeded',
          fault.message ??
            "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute.googleapis.com'",
        );
      case 'quota_exceeded':
        return gcpError(
          what,
          403,
          'quotaExceeded',
          fault.message ?? "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.",
        );
      case 'no_capacity':
      case 'vanishes': {
        const zone = asText(inputs.zone ?? 'unknown');
        const message = `The zone 'projects/${asText(inputs.project ?? 'p')}/zones/${zone}' does not have enough resources available to fulfill the request.  Try a different zone, or try again later.`;
        return gcpOperationError(
          `instance to ${operation}`,
          fault.code ?? 'ZONE_RESOURCE_POOL_EXHAUSTED',
          fault.message ?? message,
        );
      }
      case 'access_denied':
        return gcpError(
          what,
          403,
          'forbidden',
          fault.message ?? `Required 'compute.${noun.toLowerCase()}s.${operation}' permission for '${name}'`,
        );
      case 'conflict':
        return gcpError(what, 400, 'resourceNotReady', fault.message ?? `The resource '${name}' is not ready`);
      case 'create_failed':
      case 'degraded':
        return gcpOperationError(
          `${noun} to ${operation}`,
          fault.code ?? 'INTERNAL_ERROR',
          fault.message ?? 'Internal error. Please try again or contact Google Support.',
        );
      default:
        return gcpError(what, 400, fault.code ?? 'badRequest', fault.message ?? 'refused by a fault');
    }
  },
  conflictError: ({ id }, operation) =>
    gcpError(
      `Error on ${operation}`,
      400,
      'resourceNotReady',
      `The resource '${id}' is not ready (RESOURCE_NOT_READY)`,
    ),
  existsError: (type, id) =>
    // Who has a right is given it again without effect.
    type.endsWith(':IAMMember') || type.endsWith(':BucketIAMMember')
      ? undefined
      : gcpError(
          `Error creating ${type.split(':').at(-1)}`,
          409,
          'alreadyExists',
          `The resource '${id}' already exists`,
        ),
  goneError: (type, id) =>
    gcpError(`Error reading ${type.split(':').at(-1)}`, 404, 'notFound', `The resource '${id}' was not found`),
  invoke(token, args, { config }) {
    const project = textOf(args.project) ?? textOf(args.projectId) ?? config.project;
    if (token === 'gcp:compute/getZones:getZones') {
      const region = String(textOf(args.region) ?? config.region);
      return { id: `projects/${String(project)}/regions/${region}`, project, region, names: zonesOfRegion(region) };
    }
    if (token === 'gcp:organizations/getProject:getProject') {
      return {
        id: `projects/${String(project)}`,
        projectId: project,
        name: project,
        number: PROJECT_NUMBER,
        autoCreateNetwork: false,
        billingAccount: '',
        deletionPolicy: 'PREVENT',
        effectiveLabels: {},
        labels: {},
        pulumiLabels: {},
        folderId: '',
        orgId: '',
        tags: {},
      };
    }
    throw new CloudError('UnknownFunction', `the simulated gcp has no behaviour for ${token}`);
  },
};

function selfPath(type: string, inputs: Properties, config: Properties): string | undefined {
  const [place, plural] = PLACES[type] ?? [];
  const name = textOf(inputs.name);
  if (place === undefined || name === undefined) return undefined;
  const project = String(textOf(inputs.project) ?? config.project);
  if (place === 'global') return `projects/${project}/global/${plural}/${name}`;
  const where = place === 'zones' ? (textOf(inputs.zone) ?? config.zone) : (textOf(inputs.region) ?? config.region);
  return where === undefined ? undefined : `projects/${project}/${place}/${asText(where)}/${plural}/${name}`;
}

function fillInputs({
  logicalName,
  rules,
  table,
  news,
  olds,
  randomSeed,
  proposedName,
  scene,
}: FillRequest): Properties {
  let inputs: Properties = { ...news };
  const automatic: string[] = [];
  const { nameInput } = rules;
  if (nameInput !== undefined && getPath(news, nameInput) === undefined && proposedName !== null) {
    const wasAutomatic = Array.isArray(olds?.__defaults) && olds.__defaults.includes(nameInput);
    const plain = logicalName.toLowerCase().replaceAll(/[^a-z0-9-]/g, '-');
    const name =
      (wasAutomatic ? getPath(olds, nameInput) : undefined) ??
      (proposedName || autoName(plain, seededHex(randomSeed, 7), '-', rules.maxNameLength ?? 63));
    inputs = withPath(inputs, nameInput, name);
    automatic.push(nameInput);
  }
  const places = Object.fromEntries(
    ['project', 'zone', 'region'].filter((key) => key in table.in).map((key) => [key, scene.config[key]]),
  );
  for (const [key, value] of Object.entries({ ...places, ...rules.defaults?.(inputs, scene) })) {
    if (inputs[key] !== undefined || value === undefined) continue;
    inputs[key] = value;
    automatic.push(key);
  }
  return { ...inputs, __defaults: automatic };
}

/** What lies in a project, a region or a zone needs to be told which, by itself or by the provider. */
function withPlace(type: string, rules: ResourceRules): ResourceRules {
  const place = PLACES[type]?.[0];
  return {
    ...rules,
    refuseCreate(inputs, scene: Scene) {
      const takes = loadTable('gcp').resources[type]?.in ?? {};
      if ('project' in takes && textOf(inputs.project) === undefined)
        throw new CloudError('MissingProject', 'project: required field is not set');
      if (place === 'zones' && textOf(inputs.zone) === undefined)
        throw new CloudError('MissingZone', 'zone: required field is not set');
      if (place === 'regions' && textOf(inputs.region) === undefined)
        throw new CloudError('MissingRegion', 'region: required field is not set');
      rules.refuseCreate?.(inputs, scene);
    },
  };
}
