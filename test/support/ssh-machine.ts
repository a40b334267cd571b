/** An SSH server on loopback that lets one key in and answers every command with what the test says. */
import { createServer, type AddressInfo } from 'node:net';
import ssh2 from 'ssh2';

export interface SshAnswer {
  output: string;
  /** null: killed by a signal, as far as the client learns. */
  exitCode: number | null;
}

export interface SshMachine {
  host: string;
  port: number;
  user: string;
  /** What commands answer from now on; 'never' leaves them hanging. */
  answer: SshAnswer | 'never';
  /** What new connections meet: an SSH server, one that never speaks, or a hang-up. */
  mood: 'talks' | 'silent' | 'hangs_up';
  readonly commands: string[];
  close(): Promise<void>;
}

/** One key pair for all test files of a process: making RSA keys takes time, Ed25519 ones do not. */
export const SSH_KEY = makeKeyPair();
const HOST_KEY = makeKeyPair().private;

/** ssh2 now and then writes an ed25519 key that it cannot read. */
export function makeKeyPair(): { private: string; public: string } {
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519');
    if (!(ssh2.utils.parseKey(pair.private) instanceof Error)) return pair;
  }
}

export const RTX_4090: SshAnswer = { output: 'NVIDIA GeForce RTX 4090, 24564\n', exitCode: 0 };

export async function startSshMachine(publicKey = SSH_KEY.public): Promise<SshMachine> {
  const allowed = ssh2.utils.parseKey(publicKey);
  if (allowed instanceof Error) throw allowed;
  const server = new ssh2.Server({ hostKeys: [HOST_KEY] }, (client) => serve(client));
  const sockets = new Set<{ destroy(): unknown }>();
  const listener = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
    if (machine.mood === 'hangs_up') return void socket.destroy();
    if (machine.mood === 'talks') server.injectSocket(socket);
  });
  const machine: SshMachine = {
    host: '127.0.0.1',
    port: 0,
    user: 'root',
    answer: RTX_4090,
    mood: 'talks',
    commands: [],
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        listener.close(() => resolve());
      }),
  };

  function serve(client: ssh2.Connection): void {
    client.on('error', () => {});
    client.on('authentication', (attempt) => {
      const isKey =
        attempt.method === 'publickey' && attempt.key.data.equals((allowed as ssh2.ParsedKey).getPublicSSH());
      if (isKey) attempt.accept();
      else attempt.reject(['publickey']);
    });
    client.on('session', (accept) => {
      accept().on('exec', (acceptExec, _reject, { command }) => {
        machine.commands.push(command);
        const channel = acceptExec();
        if (machine.answer === 'never') return;
        channel.write(machine.answer.output);
        if (machine.answer.exitCode === null) channel.exit('KILL');
        else channel.exit(machine.answer.exitCode);
        channel.end();
      });
    });
  }

  await new Promise<void>((resolve) => listener.listen(0, machine.host, resolve));
  machine.port = (listener.address() as AddressInfo).port;
  return machine;
}
