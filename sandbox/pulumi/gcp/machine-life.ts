/**
 * The simulated machines of Google as something that runs: whoever watches is told when one is RUNNING and when it is no more, with what
 * its start-up script exports. A machine's files lie on its data disk: made anew on the same disk, it finds them again.
 */
import type { MachineWatch, RunningMachine } from '../../vendor.ts';
import type { SandboxClock } from '../../clock.ts';
import type { CloudResource, CloudStore, ResourceKey } from '../cloud-store.ts';
import { listOf, objectOf, textOf } from '../properties.ts';
import { isReference } from './network.ts';

const INSTANCE = 'gcp:compute/instance:Instance';
const DISKS = ['gcp:compute/disk:Disk', 'gcp:compute/regionDisk:RegionDisk'];

export interface GcpMachineLife {
  /** Of every resource that is put or removed. */
  onChange(key: ResourceKey): void;
  /** Tells of those that ran when the sandbox ended. */
  open(): void;
  /** Nothing runs any more: the world ends. */
  close(): void;
}

export function createGcpMachineLife(
  store: () => CloudStore,
  clock: SandboxClock,
  watch: MachineWatch,
): GcpMachineLife {
  const running = new Map<string, RunningMachine>();
  const looks = new Map<string, () => void>();

  function end(id: string): void {
    const machine = running.get(id);
    if (machine === undefined) return;
    running.delete(id);
    watch.onGone(machine);
  }

  function look(key: ResourceKey): void {
    looks.get(key.id)?.();
    looks.delete(key.id);
    const instance = store().get(key);
    if (instance?.transition) {
      looks.set(
        key.id,
        clock.schedule(instance.transition.untilMs, () => look(key)),
      );
    }
    if (instance?.outputs.currentStatus !== 'RUNNING') return end(key.id);
    const machine = describe(instance, store());
    if (running.get(key.id)?.boot === machine.boot) return;
    end(key.id);
    running.set(key.id, machine);
    watch.onRunning(machine);
  }

  return {
    onChange: (key) => {
      // Not in the middle of the change: whoever looks may change it again.
      if (key.type === INSTANCE) clock.schedule(clock.now(), () => look(key));
    },
    open() {
      for (const instance of store().ofType(INSTANCE)) look(instance);
    },
    close() {
      for (const unschedule of looks.values()) unschedule();
      looks.clear();
      for (const id of running.keys()) end(id);
    },
  };
}

function describe(instance: CloudResource, store: CloudStore): RunningMachine {
  const { inputs, outputs } = instance;
  const startupScript =
    textOf(inputs.metadataStartupScript) ?? textOf(objectOf(inputs.metadata)['startup-script']) ?? null;
  const source = objectOf(listOf(inputs.attachedDisks)[0]).source;
  const disk = DISKS.flatMap((type) => store.ofType(type)).find((one) => isReference(source, one));
  return {
    provider: 'gcp',
    instanceId: String(inputs.name),
    label: instance.logicalName,
    origin: instance.logicalName === '' ? 'foreign' : 'bought',
    boot: Number(outputs.simulatedStarts ?? 1),
    startupScript,
    env: exportsOf(startupScript ?? ''),
    gpus: null,
    sshPort: 0,
    filesOf: String((disk ?? instance).outputs[disk ? 'diskId' : 'instanceId']),
  };
}

/** Lines such as `export NAME='value'`. */
function exportsOf(script: string): Record<string, string> {
  const lines = script.matchAll(/^export ([A-Z][A-Z0-9_]*)='?([^'\n]*)'?$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name as string, value as string]));
}
