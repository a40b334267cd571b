/** Where the machines of the world answer SSH: one server for each GPU that nvidia-smi may show, and a port on which nobody listens. */
import { RTX_4090, SSH_KEY, startSshMachine } from '../support/ssh-machine.ts';
import type { WorldKeys } from './world-fleet.ts';
import type { SshPlaces } from './world-vendor.ts';

export async function startWorldMachines(): Promise<{ places: SshPlaces; keys: WorldKeys; close(): Promise<void> }> {
  const small = await startSshMachine();
  small.answer = RTX_4090;
  const large = await startSshMachine();
  large.answer = { output: 'NVIDIA H100 80GB HBM3, 81559\n', exitCode: 0 };
  const silent = await startSshMachine();
  const closed = { host: silent.host, port: silent.port, user: 'root' };
  await silent.close();
  const placeOf = ({ host, port, user }: typeof small) => ({ host, port, user });
  return {
    places: { byGpu: { 'RTX 4090': placeOf(small), 'H100 SXM': placeOf(large) }, closed },
    keys: { privateKey: SSH_KEY.private, publicKey: SSH_KEY.public },
    async close() {
      await small.close();
      await large.close();
    },
  };
}
