/** IAM: roles, users, policies and who may. Global: its scope is ''. */
import type { CloudError } from '../cloud-error.ts';
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import { hashHex, newCode } from '../names.ts';
import { textOf, type Properties, asText } from '../properties.ts';
import { awsError } from './errors.ts';
import { ACCOUNT_ID } from './places.ts';

const ROLE = 'aws:iam/role:Role';
const USER = 'aws:iam/user:User';
const POLICY = 'aws:iam/policy:Policy';
const ATTACHMENT = 'aws:iam/rolePolicyAttachment:RolePolicyAttachment';
const ROLE_POLICY = 'aws:iam/rolePolicy:RolePolicy';
const ACCESS_KEY = 'aws:iam/accessKey:AccessKey';
const USER_POLICY = 'aws:iam/userPolicy:UserPolicy';

const KEYS_PER_USER = 2;
const ATTACHMENTS_PER_ROLE = 10;

export const IDENTITY_RULES: Record<string, ResourceRules> = {
  [ROLE]: {
    nameInput: 'name',
    maxNameLength: 64,
    replaceOn: ['path', 'namePrefix'],
    defaults: () => ({ forceDetachPolicies: false, maxSessionDuration: 3600, path: '/' }),
    id: (inputs) => String(inputs.name),
    outputs: (inputs, { scene, before }) => ({
      arn: `arn:aws:iam::${ACCOUNT_ID}:role${asText(inputs.path ?? '/')}${asText(inputs.name)}`,
      uniqueId: before?.outputs.uniqueId ?? `AROA${newCode(17)}`,
      createDate: before?.outputs.createDate ?? new Date(scene.now()).toISOString(),
    }),
    refuseCreate(inputs) {
      requirePolicyText(inputs.assumeRolePolicy, 'creating IAM Role', 'IAM CreateRole');
    },
    refuseUpdate(_role, news) {
      requirePolicyText(news.assumeRolePolicy, 'updating IAM Role', 'IAM UpdateAssumeRolePolicy');
    },
    refuseDelete(role, scene) {
      const hasPolicies = [ATTACHMENT, ROLE_POLICY].some((type) =>
        scene.find(type).some(({ inputs }) => inputs.role === role.id),
      );
      if (hasPolicies && role.inputs.forceDetachPolicies !== true) {
        throw awsError(
          `deleting IAM Role (${role.id})`,
          'IAM DeleteRole',
          409,
          'DeleteConflict',
          'Cannot delete entity, must detach all policies first.',
        );
      }
    },
  },
  [ATTACHMENT]: {
    replaceOn: ['role', 'policyArn'],
    id: (inputs) => `${String(inputs.role)}-${String(inputs.policyArn)}`,
    refuseCreate(inputs, scene) {
      const call = ['attaching IAM Policy to IAM Role', 'IAM AttachRolePolicy', 404] as const;
      requireRole(textOf(inputs.role) ?? '', scene, call[0], call[1]);
      const arn = textOf(inputs.policyArn) ?? '';
      const isKnown =
        arn.startsWith('arn:aws:iam::aws:policy/') || scene.find(POLICY).some(({ outputs }) => outputs.arn === arn);
      if (!isKnown) throw awsError(...call, 'NoSuchEntity', `Policy ${arn} does not exist or is not attachable.`);
      const attached = scene.find(ATTACHMENT).filter((other) => other.inputs.role === inputs.role);
      if (attached.length >= ATTACHMENTS_PER_ROLE) {
        throw awsError(
          call[0],
          call[1],
          409,
          'LimitExceeded',
          `Cannot exceed quota for PoliciesPerRole: ${ATTACHMENTS_PER_ROLE}`,
        );
      }
    },
  },
  [ROLE_POLICY]: {
    nameInput: 'name',
    replaceOn: ['role', 'namePrefix'],
    id: (inputs) => `${String(inputs.role)}:${String(inputs.name)}`,
    refuseCreate(inputs, scene) {
      requireRole(textOf(inputs.role) ?? '', scene, 'putting IAM Role Policy', 'IAM PutRolePolicy');
      requirePolicyText(inputs.policy, 'putting IAM Role Policy', 'IAM PutRolePolicy');
    },
  },
  [POLICY]: {
    nameInput: 'name',
    maxNameLength: 128,
    replaceOn: ['path', 'description', 'namePrefix'],
    defaults: () => ({ path: '/' }),
    id: (inputs) => policyArn(inputs),
    outputs: (inputs, { before }) => ({
      arn: policyArn(inputs),
      policyId: before?.outputs.policyId ?? `ANPA${newCode(17)}`,
      attachmentCount: 0,
    }),
    refuseCreate(inputs) {
      requirePolicyText(inputs.policy, 'creating IAM Policy', 'IAM CreatePolicy');
    },
    refuseDelete(policy, scene) {
      if (scene.find(ATTACHMENT).some(({ inputs }) => inputs.policyArn === policy.id)) {
        throw awsError(
          `deleting IAM Policy (${policy.id})`,
          'IAM DeletePolicy',
          409,
          'DeleteConflict',
          'Cannot delete a policy attached to entities.',
        );
      }
    },
  },
  'aws:iam/openIdConnectProvider:OpenIdConnectProvider': {
    replaceOn: ['url'],
    id: (inputs) => `arn:aws:iam::${ACCOUNT_ID}:oidc-provider/${bareUrl(inputs)}`,
    outputs: (inputs, { id }) => ({ arn: id, thumbprintLists: [hashHex(bareUrl(inputs), 40)] }),
    refuseCreate(inputs) {
      const url = textOf(inputs.url) ?? '';
      if (!url.startsWith('https://')) {
        throw awsError(
          'creating IAM OIDC Provider',
          'IAM CreateOpenIDConnectProvider',
          400,
          'ValidationError',
          'Invalid Open ID Connect Provider URL',
        );
      }
    },
  },
  [USER]: {
    nameInput: 'name',
    maxNameLength: 64,
    defaults: () => ({ forceDestroy: false, path: '/' }),
    id: (inputs) => String(inputs.name),
    outputs: (inputs, { before }) => ({
      arn: `arn:aws:iam::${ACCOUNT_ID}:user${asText(inputs.path ?? '/')}${asText(inputs.name)}`,
      uniqueId: before?.outputs.uniqueId ?? `AIDA${newCode(17)}`,
    }),
    refuseDelete(user, scene) {
      const hasMore = [ACCESS_KEY, USER_POLICY].some((type) =>
        scene.find(type).some(({ inputs }) => inputs.user === user.id),
      );
      if (hasMore && user.inputs.forceDestroy !== true) {
        throw awsError(
          `deleting IAM User (${user.id})`,
          'IAM DeleteUser',
          409,
          'DeleteConflict',
          'Cannot delete entity, must delete access keys and policies first.',
        );
      }
    },
  },
  [USER_POLICY]: {
    nameInput: 'name',
    replaceOn: ['user', 'namePrefix'],
    id: (inputs) => `${String(inputs.user)}:${String(inputs.name)}`,
    refuseCreate(inputs, scene) {
      requireUser(inputs, scene, 'putting IAM User Policy', 'IAM PutUserPolicy');
      requirePolicyText(inputs.policy, 'putting IAM User Policy', 'IAM PutUserPolicy');
    },
  },
  [ACCESS_KEY]: {
    replaceOn: ['user', 'pgpKey'],
    defaults: () => ({ status: 'Active' }),
    id: () => `AKIA${newCode(16)}`,
    outputs: (_inputs, { scene, before }) => ({
      secret: before?.outputs.secret ?? `${newCode(20)}/${newCode(19)}`,
      sesSmtpPasswordV4: before?.outputs.sesSmtpPasswordV4 ?? newCode(44),
      createDate: before?.outputs.createDate ?? new Date(scene.now()).toISOString(),
    }),
    refuseCreate(inputs, scene) {
      requireUser(inputs, scene, 'creating IAM Access Key', 'IAM CreateAccessKey');
      if (scene.find(ACCESS_KEY).filter((other) => other.inputs.user === inputs.user).length >= KEYS_PER_USER) {
        throw awsError(
          'creating IAM Access Key',
          'IAM CreateAccessKey',
          409,
          'LimitExceeded',
          `Cannot exceed quota for AccessKeysPerUser: ${KEYS_PER_USER}`,
        );
      }
    },
  },
};

function policyArn(inputs: Properties): string {
  return `arn:aws:iam::${ACCOUNT_ID}:policy${asText(inputs.path ?? '/')}${asText(inputs.name)}`;
}

function bareUrl({ url }: Properties): string {
  return String(url).replace(/^https:\/\//, '');
}

/** Throws when there is no such role; also for other services that are given one by its ARN. */
export function requireRole(nameOrArn: string, scene: Scene, what: string, call: string): void {
  const isKnown = scene.find(ROLE, '').some(({ id, outputs }) => id === nameOrArn || outputs.arn === nameOrArn);
  if (!isKnown) throw awsError(what, call, 404, 'NoSuchEntity', `The role with name ${nameOrArn} cannot be found.`);
}

function requireUser(inputs: Properties, scene: Scene, what: string, call: string): void {
  if (!scene.find(USER).some(({ id }) => id === inputs.user)) {
    throw awsError(what, call, 404, 'NoSuchEntity', `The user with name ${String(inputs.user)} cannot be found.`);
  }
}

function requirePolicyText(value: unknown, what: string, call: string): void {
  const refuse = (reason: string): CloudError => awsError(what, call, 400, 'MalformedPolicyDocument', reason);
  let document: unknown;
  try {
    document = JSON.parse(textOf(value) ?? '');
  } catch {
    throw refuse('This policy contains invalid Json');
  }
  const statements = (document as { Statement?: unknown }).Statement;
  if (statements === undefined) throw refuse('Missing required field Statement');
  for (const statement of Array.isArray(statements) ? statements : [statements]) {
    const { Effect } = statement as { Effect?: unknown };
    if (Effect !== 'Allow' && Effect !== 'Deny') throw refuse('Syntax errors in policy: Effect must be Allow or Deny.');
  }
}
