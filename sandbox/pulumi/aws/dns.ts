/** Names at Route 53. The zones are there already: whatever id of a zone is well formed is one of the account's. */
import type { ResourceRules } from '../cloud-rules.ts';
import { textOf, textsOf, type Properties } from '../properties.ts';
import { awsError } from './errors.ts';

const RECORD = 'aws:route53/record:Record';

export const DNS_RULES: Record<string, ResourceRules> = {
  [RECORD]: {
    replaceOn: ['zoneId', 'name', 'type', 'setIdentifier'],
    defaults: () => ({}),
    id: recordId,
    outputs: (inputs) => ({ fqdn: String(inputs.name), allowOverwrite: false }),
    refuseCreate(inputs, scene) {
      const name = String(inputs.name);
      const call = [`creating Route 53 Record (${recordId(inputs)})`, 'Route 53 ChangeResourceRecordSets'] as const;
      if (!/^Z[A-Z0-9]{1,31}$/.test(String(inputs.zoneId)))
        throw awsError(...call, 404, 'NoSuchHostedZone', `No hosted zone found with ID: ${String(inputs.zoneId)}`);
      if (textsOf(inputs.records).length === 0 && inputs.aliases === undefined)
        throw awsError(
          ...call,
          400,
          'InvalidInput',
          'Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords]]',
        );
      const others = scene
        .find(RECORD)
        .filter((one) => one.inputs.zoneId === inputs.zoneId && one.inputs.name === name);
      const isAlone = inputs.type === 'CNAME' || others.some((one) => one.inputs.type === 'CNAME');
      if (isAlone && others.some((one) => one.inputs.type !== inputs.type))
        throw awsError(
          ...call,
          400,
          'InvalidChangeBatch',
          `RRSet of type CNAME with DNS name ${name}. is not permitted as it conflicts with other records with the same DNS name`,
        );
    },
  },
};

function recordId(inputs: Properties): string {
  return [inputs.zoneId, inputs.name, inputs.type].map((part) => textOf(part) ?? '').join('_');
}
