/** The configuration schema of each kind of stack, for whoever takes configuration from outside. Schema only. */
import type { z } from 'zod';
import type { StackKind } from '../domain/stack-kind.ts';
import { aksConfigSchema } from './aks/config.ts';
import { dnsRecordConfigSchema } from './dns-record/config.ts';
import { eksConfigSchema } from './eks/config.ts';
import { instanceConfigSchema } from './instance/config.ts';
import { onpremConfigSchema } from './onprem/config.ts';
import { onpremNodeConfigSchema } from './onprem-node/config.ts';
import { snapshotsConfigSchema } from './snapshots/config.ts';
import { standbyConfigSchema } from './standby/config.ts';

/** Fields that are secret: for plain `pulumi up`, which keeps them encrypted (--secret). A control plane takes none of them in a stack's row. */
export const SECRET_CONFIG_FIELDS: Partial<Record<StackKind, Record<string, string>>> = {
  onprem: { kubeconfig: 'is secret and is not taken here: register the cluster with POST /clusters, which seals it' },
};

export const STACK_CONFIG_SCHEMAS: Record<StackKind, z.ZodObject> = {
  instance: instanceConfigSchema,
  eks: eksConfigSchema,
  aks: aksConfigSchema,
  onprem: onpremConfigSchema,
  'onprem-node': onpremNodeConfigSchema,
  standby: standbyConfigSchema,
  snapshots: snapshotsConfigSchema,
  'dns-record': dnsRecordConfigSchema,
};
