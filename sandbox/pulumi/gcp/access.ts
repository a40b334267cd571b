/** Google's service accounts, their keys, who may what, and buckets. */
import type { ResourceRules } from '../cloud-rules.ts';
import { newDigits, newHex } from '../names.ts';
import { textOf } from '../properties.ts';
import { gcpError } from './errors.ts';

const ACCOUNT = 'gcp:serviceaccount/account:Account';

export const GCP_ACCESS_RULES: Record<string, ResourceRules> = {
  [ACCOUNT]: {
    replaceOn: ['accountId'],
    defaults: () => ({ disabled: false }),
    id: (inputs) =>
      `projects/${String(inputs.project)}/serviceAccounts/${String(inputs.accountId)}@${String(inputs.project)}.iam.gserviceaccount.com`,
    outputs(inputs, { id, before }) {
      const email = `${String(inputs.accountId)}@${String(inputs.project)}.iam.gserviceaccount.com`;
      return {
        email,
        member: `serviceAccount:${email}`,
        name: id,
        uniqueId: before?.outputs.uniqueId ?? newDigits(21),
      };
    },
    complain({ accountId }) {
      const text = textOf(accountId);
      if (text === undefined || /^[a-z](?:[-a-z0-9]{4,28}[a-z0-9])$/.test(text)) return [];
      return [
        {
          property: 'accountId',
          reason: `"account_id" ("${text}") doesn't match regexp "^[a-z](?:[-a-z0-9]{4,28}[a-z0-9])$"`,
        },
      ];
    },
  },
  'gcp:serviceaccount/key:Key': {
    replaceOn: ['serviceAccountId', 'keyAlgorithm', 'privateKeyType', 'publicKeyType', 'keepers', 'publicKeyData'],
    defaults: () => ({
      keyAlgorithm: 'KEY_ALG_RSA_2048',
      privateKeyType: 'TYPE_GOOGLE_CREDENTIALS_FILE',
      publicKeyType: 'TYPE_X509_PEM_FILE',
    }),
    id: (inputs) => `${String(inputs.serviceAccountId)}/keys/${newHex(40)}`,
    outputs: (_inputs, { id, scene, before }) => ({
      name: id,
      privateKey:
        before?.outputs.privateKey ??
        Buffer.from(
          JSON.stringify({ type: 'service_account', private_key_id: id.split('/').at(-1), private_key: newHex(64) }),
        ).toString('base64'),
      publicKey: before?.outputs.publicKey ?? Buffer.from(newHex(64)).toString('base64'),
      validAfter: before?.outputs.validAfter ?? new Date(scene.now()).toISOString(),
      validBefore: '9999-12-31T23:59:59Z',
    }),
    refuseCreate(inputs, scene) {
      if (
        !scene
          .find(ACCOUNT)
          .some(({ id, outputs }) => id === inputs.serviceAccountId || outputs.email === inputs.serviceAccountId)
      ) {
        throw gcpError(
          'Error creating service account key',
          404,
          'notFound',
          `Service account ${String(inputs.serviceAccountId)} does not exist.`,
        );
      }
    },
  },
  'gcp:projects/iAMMember:IAMMember': {
    replaceOn: ['member', 'role', 'condition'],
    id: (inputs) => `${String(inputs.project)}/${String(inputs.role)}/${String(inputs.member)}`,
    outputs: () => ({ etag: 'BwYAAAAAAAA=' }),
    complain({ member }) {
      const text = textOf(member);
      if (
        text === undefined ||
        /^(allUsers|allAuthenticatedUsers|(user|group|domain|serviceAccount|principal|principalSet|deleted):.+)$/.test(
          text,
        )
      )
        return [];
      return [
        {
          property: 'member',
          reason: `invalid value for member (IAM members must have one of the values outlined here: user:, serviceAccount:, group:, domain:), got ${text}`,
        },
      ];
    },
    refuseCreate(inputs) {
      if (!/^(roles\/|projects\/|organizations\/)/.test(String(inputs.role))) {
        throw gcpError(
          'Error applying IAM policy',
          400,
          'badRequest',
          `Role ${String(inputs.role)} is not supported for this resource.`,
        );
      }
    },
  },
  'gcp:serviceaccount/iAMMember:IAMMember': {
    replaceOn: ['serviceAccountId', 'member', 'role', 'condition'],
    id: (inputs) => `${String(inputs.serviceAccountId)}/${String(inputs.role)}/${String(inputs.member)}`,
    outputs: () => ({ etag: 'BwYAAAAAAAA=' }),
  },
  'gcp:projects/iAMCustomRole:IAMCustomRole': {
    replaceOn: ['roleId'],
    id: (inputs) => `projects/${String(inputs.project)}/roles/${String(inputs.roleId)}`,
    outputs: (_inputs, { id }) => ({ name: id, deleted: false }),
  },
  'gcp:storage/bucketIAMMember:BucketIAMMember': {
    replaceOn: ['bucket', 'role', 'member', 'condition'],
    id: ({ bucket, role, member }) => ['b', bucket, role, member].map(String).join('/'),
    outputs: () => ({ etag: 'CAE=' }),
  },
  'gcp:storage/bucket:Bucket': {
    nameInput: 'name',
    replaceOn: ['location', 'customPlacementConfig'],
    defaults: () => ({ forceDestroy: false, storageClass: 'STANDARD' }),
    id: (inputs) => String(inputs.name),
    outputs: (_inputs, { id }) => ({
      url: `gs://${id}`,
      selfLink: `https://www.googleapis.com/storage/v1/b/${id}`,
      publicAccessPrevention: 'inherited',
    }),
    refuseCreate(inputs) {
      if (String(inputs.name).startsWith('taken-')) {
        throw gcpError(
          'Error creating Bucket',
          409,
          'conflict',
          'The requested bucket name is not available. The bucket namespace is shared by all users of the system.',
        );
      }
    },
    refuseDelete({ id, inputs, outputs }) {
      if (outputs.simulatedObjectCount && inputs.forceDestroy !== true) {
        throw gcpError(
          'Error deleting Bucket',
          409,
          'conflict',
          `Error trying to delete bucket ${id} containing objects without force_destroy set to true`,
        );
      }
    },
  },
};
