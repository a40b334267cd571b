/** The simulated AWS: what holds for all of its types. */
import { CloudError } from '../cloud-error.ts';
import type { FillRequest, PackageRules, ResourceRules, Scene } from '../cloud-rules.ts';
import { autoName, newHex, seededHex } from '../names.ts';
import { getPath, isObject, objectOf, textOf, withPath, type Properties, asText } from '../properties.ts';
import { DNS_RULES } from './dns.ts';
import { CLUSTER_RULES } from './eks.ts';
import { awsError } from './errors.ts';
import { IDENTITY_RULES } from './iam.ts';
import { invokeAws } from './functions.ts';
import { NETWORK_RULES } from './network.ts';
import { ACCOUNT_ID } from './places.ts';
import { STORAGE_RULES } from './storage.ts';

const TYPES: Readonly<Record<string, ResourceRules>> = {
  ...NETWORK_RULES,
  ...IDENTITY_RULES,
  ...CLUSTER_RULES,
  ...STORAGE_RULES,
  ...DNS_RULES,
};

const DEFAULT_REGION = 'us-east-1';

export const AWS_RULES: PackageRules = {
  name: 'aws',
  types: TYPES,
  commonReplaceOn: ['region'],
  readConfig(args) {
    const region = textOf(args.region) ?? DEFAULT_REGION;
    return { ...args, region, accountId: ACCOUNT_ID, defaultTags: readDefaultTags(args.defaultTags) };
  },
  scopeOf(type, properties, config) {
    if (type.startsWith('aws:iam/') || type.startsWith('aws:route53/') || type === 'aws:s3/bucket:Bucket') return '';
    return textOf(properties.region) ?? String(config.region);
  },
  fillInputs,
  knownOutputs(_type, inputs, { config, scope }) {
    const tags = { ...(config.defaultTags as Properties), ...objectOf(inputs.tags) };
    return { ...(scope === '' ? {} : { region: textOf(inputs.region) ?? config.region }), tagsAll: tags };
  },
  defaultId: (type) => `${kebab(nounOf(type))}-${newHex(17)}`,
  makeOutput({ type, property, kind, id, inputs, scene }) {
    if (property === 'arn') return arnOf(type, id, scene);
    if (/^owner(Id)?$|^accountId$/.test(property)) return ACCOUNT_ID;
    if (property === 'name') return textOf(inputs.name) ?? id;
    if (property === 'createdAt' || property.endsWith('Date')) return new Date(scene.now()).toISOString();
    return emptyOf(kind);
  },
  faultError(fault, { type, operation, name }) {
    const what = `${VERBS[operation] ?? operation} ${serviceOf(type).toUpperCase()} ${nounOf(type)} (${name})`;
    const call = `${SERVICE_TITLES[serviceOf(type)] ?? serviceOf(type).toUpperCase()} ${CALLS[operation] ?? ''}${nounOf(type)}`;
    switch (fault.kind) {
      case 'throttled':
        return awsError(what, call, 429, 'ThrottlingException', fault.message ?? 'Rate exceeded');
      case 'quota_exceeded':
        return quotaError(what, call, type, fault.message);
      case 'no_capacity':
        return awsError(what, call, 500, 'InsufficientInstanceCapacity', fault.message ?? NO_CAPACITY);
      case 'access_denied': {
        const message = `User: arn:aws:sts::${ACCOUNT_ID}:assumed-role/muster is not authorized to perform this action`;
        return awsError(what, call, 403, 'AccessDeniedException', fault.message ?? message);
      }
      case 'conflict': {
        const message = `${nounOf(type)} ${name} has an update in progress`;
        return awsError(what, call, 409, 'ResourceInUseException', fault.message ?? message);
      }
      case 'create_failed':
      case 'degraded': {
        const state = fault.kind === 'degraded' ? 'DEGRADED' : 'CREATE_FAILED';
        const issue = fault.code ?? (fault.kind === 'degraded' ? 'AsgInstanceLaunchFailures' : 'NodeCreationFailure');
        const text = `waiting for ${serviceOf(type).toUpperCase()} ${nounOf(type)} (${name}) create: unexpected state '${state}', wanted target 'ACTIVE'. last error: ${issue}: ${fault.message ?? NO_CAPACITY}`;
        return new CloudError(issue, text);
      }
      default:
        return awsError(
          what,
          call,
          400,
          fault.code ?? 'InvalidParameterException',
          fault.message ?? 'refused by a fault',
        );
    }
  },
  conflictError(resource, operation) {
    const noun = nounOf(resource.type);
    const word = asText(resource.outputs.status ?? 'in progress');
    const what = `${VERBS[operation]} ${serviceOf(resource.type).toUpperCase()} ${noun} (${resource.id})`;
    const call = `${SERVICE_TITLES[serviceOf(resource.type)] ?? 'EC2'} ${CALLS[operation]}${noun}`;
    return awsError(what, call, 409, 'ResourceInUseException', `${noun} ${resource.id} is ${word}`);
  },
  existsError(type, id) {
    if (REPEATABLE.test(type)) return undefined;
    const noun = nounOf(type);
    const call = `${SERVICE_TITLES[serviceOf(type)] ?? 'EC2'} Create${noun}`;
    const [code, message] = EXISTS[type] ?? ['ResourceAlreadyExistsException', `${noun} ${id} already exists`];
    return awsError(`creating ${noun} (${id})`, call, 409, code, message.replace('$id', id));
  },
  goneError: (type, id) =>
    awsError(
      `reading ${nounOf(type)} (${id})`,
      `${SERVICE_TITLES[serviceOf(type)] ?? 'EC2'} Describe${nounOf(type)}`,
      404,
      'ResourceNotFoundException',
      `No ${nounOf(type)} found for ${id}`,
    ),
  invoke: invokeAws,
};

const NO_CAPACITY =
  'Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have sufficient capacity in the Availability Zone you requested.';

const VERBS: Record<string, string> = { create: 'creating', read: 'reading', update: 'updating', delete: 'deleting' };
const CALLS: Record<string, string> = { create: 'Create', read: 'Describe', update: 'Update', delete: 'Delete' };
const SERVICE_TITLES: Record<string, string> = {
  ec2: 'EC2',
  eks: 'EKS',
  iam: 'IAM',
  kms: 'KMS',
  s3: 'S3',
  cloudwatch: 'CloudWatch Logs',
  vpc: 'EC2',
};

/** Calls that put, attach or associate what may be so already. */
const REPEATABLE = /:(RolePolicyAttachment|RolePolicy|UserPolicy|AccessPolicyAssociation|Bucket(?!$)\w+)$/;

const EXISTS: Record<string, [code: string, message: string]> = {
  'aws:eks/cluster:Cluster': ['ResourceInUseException', 'Cluster already exists with name: $id'],
  'aws:eks/nodeGroup:NodeGroup': ['ResourceInUseException', 'NodeGroup already exists with name $id'],
  'aws:eks/addon:Addon': ['ResourceInUseException', 'Addon already exists.'],
  'aws:eks/accessEntry:AccessEntry': [
    'ResourceInUseException',
    'The specified access entry resource is already in use on this cluster.',
  ],
  'aws:iam/role:Role': ['EntityAlreadyExists', 'Role with name $id already exists.'],
  'aws:iam/user:User': ['EntityAlreadyExists', 'User with name $id already exists.'],
  'aws:iam/policy:Policy': [
    'EntityAlreadyExists',
    'A policy called $id already exists. Duplicate names are not allowed.',
  ],
  'aws:iam/openIdConnectProvider:OpenIdConnectProvider': ['EntityAlreadyExists', 'Provider with url already exists.'],
  'aws:kms/alias:Alias': ['AlreadyExistsException', 'An alias with the name $id already exists'],
  'aws:cloudwatch/logGroup:LogGroup': ['ResourceAlreadyExistsException', 'The specified log group already exists'],
  'aws:s3/bucket:Bucket': [
    'BucketAlreadyOwnedByYou',
    'Your previous request to create the named bucket succeeded and you already own it.',
  ],
  'aws:ec2/route:Route': ['RouteAlreadyExists', 'The route identified by $id already exists.'],
};

function quotaError(what: string, call: string, type: string, message: string | undefined): CloudError {
  const codes: Record<string, string> = {
    'aws:ec2/vpc:Vpc': 'VpcLimitExceeded',
    'aws:ec2/eip:Eip': 'AddressLimitExceeded',
    'aws:ec2/natGateway:NatGateway': 'NatGatewayLimitExceeded',
  };
  const code = codes[type] ?? (type.startsWith('aws:iam/') ? 'LimitExceeded' : 'ResourceLimitExceededException');
  return awsError(what, call, 400, code, message ?? `The maximum number of ${nounOf(type)}s has been reached.`);
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
  const isPrefixed = nameInput !== undefined && news[`${nameInput}Prefix`] !== undefined;
  if (nameInput !== undefined && getPath(news, nameInput) === undefined && !isPrefixed && proposedName !== null) {
    const wasAutomatic = Array.isArray(olds?.__defaults) && olds.__defaults.includes(nameInput);
    const name =
      (wasAutomatic ? getPath(olds, nameInput) : undefined) ??
      (proposedName || autoName(logicalName, seededHex(randomSeed, 7), '-', rules.maxNameLength));
    inputs = withPath(inputs, nameInput, name);
    automatic.push(nameInput);
  }
  for (const [key, value] of Object.entries(rules.defaults?.(inputs, scene) ?? {})) {
    if (inputs[key] !== undefined) continue;
    inputs[key] = value;
    automatic.push(key);
  }
  // The provider turns a policy document into its text.
  for (const [key, kind] of Object.entries(table.in)) {
    const name = key.replace(/!$/, '');
    if (/json|PolicyDocument/.test(kind) && isObject(inputs[name])) inputs[name] = JSON.stringify(inputs[name]);
  }
  return { ...inputs, __defaults: automatic };
}

function readDefaultTags(value: unknown): Properties {
  const parsed: unknown = typeof value === 'string' && value.startsWith('{') ? JSON.parse(value) : value;
  return objectOf(objectOf(parsed).tags);
}

/** `aws:eks/nodeGroup:NodeGroup` → `eks` */
export function serviceOf(type: string): string {
  return type.split(':')[1]?.split('/')[0] ?? '';
}

function nounOf(type: string): string {
  return type.split(':').at(-1) ?? type;
}

function kebab(noun: string): string {
  return noun.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase();
}

function arnOf(type: string, id: string, { scope, config }: Scene): string {
  const service = { cloudwatch: 'logs', vpc: 'ec2' }[serviceOf(type)] ?? serviceOf(type);
  return `arn:aws:${service}:${scope}:${String(config.accountId)}:${kebab(nounOf(type))}/${id}`;
}

function emptyOf(kind: string): unknown {
  if (kind.startsWith('[')) return [];
  return { string: '', number: 0, boolean: false }[kind] ?? {};
}
