/**
 * What a TensorDock machine does at its first boot, as cloud-init commands. Keys come this way because the vendor takes `ssh_key`
 * and does not install it; only `runcmd` was seen to work (not `ssh_authorized_keys`, nor `write_files` with an encoding).
 */
import { letKeysIn, type MachineUser, runOnStart, setEnvironment } from '../first-boot.ts';
import type { PurchaseOrder } from '../provider-client.ts';

export interface CloudInit {
  package_update: boolean;
  package_upgrade: boolean;
  runcmd: string[];
}

const ROOT: MachineUser = { name: 'root', home: '/root' };
const IMAGE_USER: MachineUser = { name: 'user', home: '/home/user', isOptional: true };

/** In order: keys first, so that the machine can be looked into whatever fails after them. */
export function cloudInitFor(order: Pick<PurchaseOrder, 'env' | 'onStart' | 'sshPublicKeys'>): CloudInit {
  return {
    package_update: false,
    package_upgrade: false,
    runcmd: [
      ...letKeysIn(order.sshPublicKeys, ROOT),
      ...letKeysIn(order.sshPublicKeys, IMAGE_USER),
      ...settleDriver(),
      ...setEnvironment(order.env, ROOT),
      ...runOnStart(order.onStart),
    ],
  };
}

/**
 * Images were seen with the driver's packages half installed, and with unattended upgrades that hold the package lock for
 * minutes; an upgrade of the driver also breaks it under what runs. The wait for the lock is bounded.
 */
function settleDriver(): string[] {
  return [
    'systemctl disable --now unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer >/dev/null 2>&1 || true',
    'if ! nvidia-smi >/dev/null 2>&1; then' +
      ' for i in $(seq 60); do fuser /var/lib/dpkg/lock-frontend >/dev/null 2>&1 || break; sleep 2; done;' +
      ' DEBIAN_FRONTEND=noninteractive dpkg --configure -a >>/var/log/muster-driver.log 2>&1;' +
      ' modprobe nvidia >>/var/log/muster-driver.log 2>&1 || true;' +
      ' fi',
  ];
}
