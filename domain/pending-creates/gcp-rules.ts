/**
 * Google Cloud. Ids are paths below the project, made of names that the inputs hold: those of the provider's import pages
 * (https://www.pulumi.com/registry/packages/gcp/api-docs/, "Import").
 */
import { byName, textOf, type Inputs, type PendingRule, type PendingRules } from './rule.ts';

export const GCP_PENDING_RULES: PendingRules = {
  'gcp:compute/address:Address': at('region', 'addresses'),
  'gcp:compute/disk:Disk': at('zone', 'disks'),
  'gcp:compute/firewall:Firewall': at('global', 'firewalls'),
  'gcp:compute/instance:Instance': at('zone', 'instances'),
  'gcp:compute/network:Network': at('global', 'networks'),
  'gcp:compute/regionDisk:RegionDisk': at('region', 'disks'),
  'gcp:compute/router:Router': at('region', 'routers'),
  'gcp:compute/routerNat:RouterNat': byName((i) => [i.project, i.region, i.router, i.name].map(textOf), '/'),
  'gcp:compute/subnetwork:Subnetwork': at('region', 'subnetworks'),
  // A right is there or not: giving it again changes nothing.
  'gcp:projects/iAMMember:IAMMember': byName((i) => [i.project, i.role, i.member].map(textOf), '/'),
  'gcp:serviceaccount/account:Account': byName(({ project, accountId }) => {
    const [where, name] = [textOf(project), textOf(accountId)];
    if (where === undefined || name === undefined) return undefined;
    return `projects/${where}/serviceAccounts/${name}@${where.split(':').toReversed().join('.')}.iam.gserviceaccount.com`;
  }),
  'gcp:storage/bucket:Bucket': byName(({ name }) => textOf(name)),
  'gcp:storage/bucketIAMMember:BucketIAMMember': byName((i) => ['b', ...[i.bucket, i.role, i.member].map(textOf)], '/'),
};

function at(place: 'zone' | 'region' | 'global', plural: string): PendingRule {
  return byName(
    (inputs) => ['projects', textOf(inputs.project), ...placeOf(inputs, place), plural, textOf(inputs.name)],
    '/',
  );
}

/** Zones and regions may be given as links. */
function placeOf(inputs: Inputs, place: 'zone' | 'region' | 'global'): (string | undefined)[] {
  return place === 'global' ? ['global'] : [`${place}s`, textOf(inputs[place])?.split('/').at(-1)];
}
