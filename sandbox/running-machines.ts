/** Which machines of one vendor run now, so that whoever watches is told each beginning and each end once. */
import type { SshMachineId } from './ssh/ssh-fleet.ts';
import type { MachineWatch, RunningMachine } from './vendor.ts';

export interface RunningMachines {
  begin(id: SshMachineId): void;
  /** Does nothing for a machine that does not run. */
  end(id: SshMachineId): void;
  endAll(): void;
}

/** `describe` is asked at the beginning: undefined when there is nothing to tell. */
export function createRunningMachines(
  watch: MachineWatch,
  describe: (id: SshMachineId) => RunningMachine | undefined,
): RunningMachines {
  const running = new Map<SshMachineId, RunningMachine>();
  function end(id: SshMachineId): void {
    const machine = running.get(id);
    if (machine === undefined) return;
    running.delete(id);
    watch.onGone(machine);
  }
  return {
    begin(id) {
      end(id);
      const machine = describe(id);
      if (machine === undefined) return;
      running.set(id, machine);
      watch.onRunning(machine);
    },
    end,
    endAll() {
      for (const id of running.keys()) end(id);
    },
  };
}
