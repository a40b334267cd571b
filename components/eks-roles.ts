/** IAM roles of an EKS cluster: one for its control plane, one for its nodes, and one for each Pod that acts at AWS. Each may do what AWS's own policy for it allows. */
import { Role } from '@pulumi/aws/iam/role.js';
import { RolePolicyAttachment } from '@pulumi/aws/iam/rolePolicyAttachment.js';
import type { Resource } from '@pulumi/pulumi/resource.js';

export interface ServiceRoleArgs {
  /** Physical name: at most 64 characters, and unique in the account, whatever the region. */
  name: string;
  /** Who may take it: "eks.amazonaws.com". */
  service: string;
  /** "aws", "aws-cn", "aws-us-gov". */
  partition: string;
  /** Names of AWS's managed policies. */
  policies: readonly string[];
  tags: Record<string, string>;
}

export interface ServiceRole {
  role: Role;
  /** What uses the role is made after them and goes before them. */
  attachments: RolePolicyAttachment[];
}

export function makeServiceRole(logicalName: string, args: ServiceRoleArgs, parent: Resource): ServiceRole {
  // Pods take their role through the identity agent, which also tags the session.
  const actions = args.service === 'pods.eks.amazonaws.com' ? ['sts:AssumeRole', 'sts:TagSession'] : 'sts:AssumeRole';
  const role = new Role(
    logicalName,
    {
      name: args.name,
      assumeRolePolicy: JSON.stringify({
        Version: '2012-10-17',
        Statement: [{ Action: actions, Effect: 'Allow', Principal: { Service: args.service } }],
      }),
      tags: args.tags,
    },
    { parent },
  );
  const attachments = args.policies.map(
    (policy) =>
      new RolePolicyAttachment(
        `${logicalName}-${policy.replace(/^.*\//, '')}`,
        { role: role.name, policyArn: `arn:${args.partition}:iam::aws:policy/${policy}` },
        { parent },
      ),
  );
  return { role, attachments };
}

export function partitionOf(region: string): string {
  if (region.startsWith('cn-')) return 'aws-cn';
  return region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
}
