/**
 * The SSH side of all simulated machines: one listening port on loopback per running machine, one host key for all
 * of them. It knows ports and connections; what a machine is, who may log in and what its GPUs are, it asks.
 * A machine's ssh2 server is made at its first connection: 500 idle machines are 500 sockets and nothing else.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import ssh2 from 'ssh2';
import type { AuthContext, Connection, ParsedKey, ServerChannel } from 'ssh2';
import { findKeysInScript } from '../public-keys.ts';
import { type MachineFacts, runCommandLine } from './command-line.ts';

/** The vendor's id of a machine; only its text counts. */
export type SshMachineId = number | string;

export interface SshMachine {
  /** Who may log in: what the vendor's image calls its user. */
  user: string;
  /** Whether a connection gets an answer at all. */
  answers: 'answers' | 'silent' | 'refused';
  /** OpenSSH public keys that may log in as that user now. */
  publicKeys: readonly string[];
  facts: Omit<MachineFacts, 'user'>;
}

export interface SshFleet {
  /**
   * Listens for this machine, on `preferredPort` when that is still free, and returns the port. Connections before
   * `answersFromMs` (clock of the sandbox) are cut. Open already: returns its port.
   */
  open(machineId: SshMachineId, preferredPort: number | null, answersFromMs: number): Promise<number>;
  /** Stops listening and cuts the connections. Does nothing for a machine that is not open. */
  close(machineId: SshMachineId): void;
  closeAll(): void;
}

export interface SshFleetOptions {
  /** Where the host key is kept; null makes one for this run. */
  hostKeyPath: string | null;
  now: () => number;
  /** What stands behind a connection at this moment; undefined when the machine is gone. */
  describe: (machineId: SshMachineId) => SshMachine | undefined;
}

interface OpenMachine {
  listener: NetServer;
  port: number;
  sockets: Set<Socket>;
  server: InstanceType<typeof ssh2.Server> | null;
  /** Public keys that scripts put on the machine over SSH, until it stops listening. */
  letIn: Set<string>;
}

const HOST = '127.0.0.1';
/** A shell that takes its commands from standard input. */
const SCRIPTED = /^(sudo -n )?(ba)?sh -s$/;
const MAX_SCRIPT_BYTES = 1024 * 1024;

export function createSshFleet({ hostKeyPath, now, describe }: SshFleetOptions): SshFleet {
  const hostKey = parsePrivateKey(loadHostKey(hostKeyPath));
  const open = new Map<SshMachineId, OpenMachine>();

  function acceptSocket(machineId: SshMachineId, machine: OpenMachine, answersFromMs: number, socket: Socket): void {
    machine.sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => machine.sockets.delete(socket));
    const described = describe(machineId);
    if (described === undefined || described.answers === 'refused' || now() < answersFromMs)
      return void socket.destroy();
    if (described.answers === 'silent') return void socket.resume();
    machine.server ??= createSshServer(machineId, machine);
    machine.server.injectSocket(socket);
  }

  function createSshServer(machineId: SshMachineId, { letIn }: OpenMachine): InstanceType<typeof ssh2.Server> {
    const current = (): SshMachine | undefined => {
      const machine = describe(machineId);
      return machine && { ...machine, publicKeys: [...machine.publicKeys, ...letIn] };
    };
    // A parsed key is taken as it is, which the types do not say: parsing it for each machine would be waste.
    const config = { hostKeys: [{ key: hostKey as unknown as string }], ident: 'OpenSSH_8.9p1' };
    const server = new ssh2.Server(config, (client) => serveClient(client, current, letIn));
    server.on('error', () => {});
    return server;
  }

  return {
    async open(machineId, preferredPort, answersFromMs) {
      const existing = open.get(machineId);
      if (existing !== undefined) return existing.port;
      // Without noDelay each of a login's dozen small packets would wait 40 ms for an acknowledgement.
      const machine: OpenMachine = {
        listener: createServer({ noDelay: true }),
        port: 0,
        sockets: new Set(),
        server: null,
        letIn: new Set(),
      };
      machine.listener.on('connection', (socket) => acceptSocket(machineId, machine, answersFromMs, socket));
      machine.port = await listenOn(machine.listener, preferredPort);
      open.set(machineId, machine);
      return machine.port;
    },
    close(machineId) {
      const machine = open.get(machineId);
      if (machine === undefined) return;
      open.delete(machineId);
      closeMachine(machine);
    },
    closeAll() {
      for (const machine of open.values()) closeMachine(machine);
      open.clear();
    },
  };
}

function closeMachine(machine: OpenMachine): void {
  machine.listener.close();
  for (const socket of machine.sockets) socket.destroy();
}

async function listenOn(listener: NetServer, preferredPort: number | null): Promise<number> {
  for (const port of preferredPort === null ? [0] : [preferredPort, 0]) {
    const isListening = await new Promise<boolean>((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException): void =>
        error.code === 'EADDRINUSE' ? resolve(false) : reject(error);
      listener.once('error', onError);
      listener.listen(port, HOST, () => {
        listener.off('error', onError);
        resolve(true);
      });
    });
    if (isListening) break;
  }
  return (listener.address() as AddressInfo).port;
}

function serveClient(client: Connection, current: () => SshMachine | undefined, letIn: Set<string>): void {
  client.on('error', () => client.end());
  client.on('authentication', (context) => decideLogin(context, current()));
  client.on('session', (accept) => {
    const session = accept();
    session.on('pty', (acceptPty) => acceptPty?.());
    session.on('env', (acceptEnv) => acceptEnv?.());
    session.on('exec', (acceptExec, _reject, info) => {
      const machine = current();
      const channel = acceptExec();
      if (machine === undefined) return channel.close();
      if (SCRIPTED.test(info.command)) return serveScript(channel, letIn);
      const result = runCommandLine(info.command, { ...machine.facts, user: machine.user });
      if (result.stderr !== '') channel.stderr.write(result.stderr);
      channel.write(result.stdout);
      channel.exit(result.exitCode);
      channel.end();
    });
    session.on('shell', (acceptShell) => serveShell(acceptShell(), current));
  });
}

/**
 * There is no shell to run a script from standard input: of what it would do, only the keys that it lets in are there afterwards, as with
 * the start scripts of machines.
 */
function serveScript(channel: ServerChannel, letIn: Set<string>): void {
  const parts: Buffer[] = [];
  let bytes = 0;
  channel.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_SCRIPT_BYTES) parts.push(chunk);
  });
  channel.on('end', () => {
    for (const key of findKeysInScript(Buffer.concat(parts).toString('utf8'))) letIn.add(key);
    channel.exit(0);
    channel.end();
  });
}

/** Public keys only, and one user only: what the vendors' images allow. */
function decideLogin(context: AuthContext, machine: SshMachine | undefined): void {
  if (machine === undefined || context.username !== machine.user || context.method !== 'publickey') {
    return context.reject(['publickey']);
  }
  const key = machine.publicKeys.map(parsePublicKey).find((candidate) => {
    return (
      candidate !== null && candidate.type === context.key.algo && candidate.getPublicSSH().equals(context.key.data)
    );
  });
  if (key === undefined || key === null) return context.reject(['publickey']);
  // Without a signature the client only asks whether it may try this key.
  if (context.signature === undefined || context.blob === undefined) return context.accept();
  if (key.verify(context.blob, context.signature, context.hashAlgo) === true) context.accept();
  else context.reject(['publickey']);
}

/** A prompt for a person: one line at a time, with echo and backspace. */
function serveShell(channel: ServerChannel, current: () => SshMachine | undefined): void {
  let line = '';
  let exitCode = 0;
  const user = current()?.user ?? 'root';
  const prompt = `${user}@sandbox:~${user === 'root' ? '#' : '$'} `;
  channel.write(`Simulated machine. It knows nvidia-smi, echo, hostname, uptime and exit.\r\n${prompt}`);
  function runLine(): boolean {
    const command = line.trim();
    line = '';
    channel.write('\r\n');
    const machine = current();
    if (machine === undefined || command === 'exit' || command === 'logout') return false;
    if (command !== '') {
      const result = runCommandLine(command, { ...machine.facts, user });
      channel.write(`${result.stdout}${result.stderr}`.replaceAll('\n', '\r\n'));
      exitCode = result.exitCode;
    }
    channel.write(prompt);
    return true;
  }
  function leave(): void {
    channel.exit(exitCode);
    channel.end();
  }
  channel.on('end', leave);
  channel.on('data', (chunk: Buffer) => {
    for (const character of chunk.toString('utf8')) {
      if (character === '\r' || character === '\n') {
        if (!runLine()) return leave();
      } else if (character === '\u0004') {
        return leave();
      } else if (character === '\u007f') {
        if (line !== '') channel.write('\b \b');
        line = line.slice(0, -1);
      } else if (character >= ' ') {
        line += character;
        channel.write(character);
      }
    }
  });
}

/** The key's parsed form, or null when it is no key. */
export function parsePublicKey(publicKey: string): ParsedKey | null {
  const parsed = ssh2.utils.parseKey(publicKey.trim());
  return parsed instanceof Error || parsed.isPrivateKey() ? null : parsed;
}

function parsePrivateKey(privateKey: string): ParsedKey {
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) throw new Error(`the sandbox's SSH host key cannot be read: ${parsed.message}`);
  return parsed;
}

function loadHostKey(path: string | null): string {
  if (path !== null && existsSync(path)) return readFileSync(path, 'utf8');
  let privateKey: string;
  // ssh2 now and then writes an ed25519 key that it cannot read.
  do privateKey = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'sandbox' }).private;
  while (ssh2.utils.parseKey(privateKey) instanceof Error);
  if (path !== null) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, privateKey, { mode: 0o600 });
  }
  return privateKey;
}
