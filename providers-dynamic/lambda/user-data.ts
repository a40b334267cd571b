/**
 * What a Lambda machine does at its first boot, as cloud-init data. The first key is installed by the vendor; further ones, env
 * and onStart come this way.
 */
import type { PurchaseOrder } from '../provider-client.ts';
import { letKeysIn, runOnStart, setEnvironment } from '../first-boot.ts';
import { SSH_USER } from './wire.ts';

/** Empty: nothing is left to do. JSON is YAML, and needs no care with quoting. */
export function userDataFor(order: Pick<PurchaseOrder, 'env' | 'onStart' | 'sshPublicKeys'>): string {
  const user = { name: SSH_USER, home: `/home/${SSH_USER}` };
  const runcmd = [
    ...letKeysIn(order.sshPublicKeys.slice(1), user),
    ...setEnvironment(order.env, user),
    ...runOnStart(order.onStart),
  ];
  return runcmd.length === 0 ? '' : `#cloud-config\n${JSON.stringify({ runcmd })}\n`;
}
