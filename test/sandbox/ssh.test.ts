import ssh2 from 'ssh2';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BOOTED_MS, type Json, startVendor, type Vendor } from './vendor.ts';

const mine = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
const other = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
const rsa = ssh2.utils.generateKeyPairSync('rsa', { bits: 2048 });
const QUERY = 'nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits';

let vendor: Vendor;
beforeEach(async () => {
  vendor = await startVendor();
});
afterEach(() => vendor.close());

describe('login', () => {
  it('works with an account key from before the purchase, an attached key, and a key in onstart', async () => {
    await vendor.call('POST', '/api/v0/ssh/', { ssh_key: mine.public });
    const byAccount = await boot();
    await vendor.call('DELETE', '/api/v0/ssh/501/');
    const byScript = await boot({ onstart: `mkdir -p ~/.ssh; echo '${mine.public}' >> ~/.ssh/authorized_keys` });
    const byAttach = await boot();
    await expect(exec(byAttach, QUERY)).rejects.toThrow('authentication');
    await vendor.call('POST', `/api/v0/instances/${byAttach}/ssh/`, { ssh_key: `${mine.public} me@home` });
    for (const id of [byAccount, byScript, byAttach]) {
      expect(await exec(id, QUERY)).toEqual({ stdout: 'NVIDIA GeForce RTX 4090, 24564\n', stderr: '', exitCode: 0 });
    }
  });

  it('works with RSA keys too', async () => {
    const id = await boot({ onstart: rsa.public });
    expect(await exec(id, 'hostname', rsa.private)).toMatchObject({ stdout: `C.${id}\n` });
  });

  it('is refused to other keys, other users and detached keys', async () => {
    const id = await boot();
    await attach(id);
    await expect(exec(id, QUERY, other.private)).rejects.toThrow('authentication');
    await expect(exec(id, QUERY, mine.private, 'ubuntu')).rejects.toThrow('authentication');
    const { body } = await vendor.call('GET', `/api/v0/instances/${id}/ssh/`);
    const [key] = body['ssh_keys'] as Json[];
    await vendor.call('DELETE', `/api/v0/instances/${id}/ssh/${String(key!['id'])}/`);
    await expect(exec(id, QUERY)).rejects.toThrow('authentication');
  });

  it('works with a key that a script brings over SSH, as somebody does who lets others in', async () => {
    const id = await boot();
    await attach(id);
    await expect(exec(id, QUERY, other.private)).rejects.toThrow('authentication');
    const script = `set -eu\nlet_in '${other.public}'\n`;
    expect(await exec(id, 'sh -s', mine.private, 'root', script)).toEqual({ stdout: '', stderr: '', exitCode: 0 });
    expect(await exec(id, QUERY, other.private)).toMatchObject({ exitCode: 0 });
  });

  it('works with an attached key only after the delay that is switched on', async () => {
    vendor.setSwitches('vastai', { keyDelayMs: 12_000 });
    const id = await boot();
    await attach(id);
    await expect(exec(id, QUERY)).rejects.toThrow('authentication');
    await vendor.advance(12_000);
    expect(await exec(id, QUERY)).toMatchObject({ exitCode: 0 });
  });

  it('is where the instance says: the port, and ssh_host with ssh_port, plus one for jupyter', async () => {
    for (const runtype of ['ssh_direc ssh_proxy', 'jupyter_direc ssh_direc ssh_proxy']) {
      const instance = await vendor.read(await boot({ runtype }));
      const port = directPort(instance);
      expect(Number(instance['ssh_port']) + (runtype.includes('jupyter') ? 1 : 0)).toBe(port);
      expect(instance).toMatchObject({ public_ipaddr: '127.0.0.1', ssh_host: '127.0.0.1' });
    }
  });

  it('refuses texts that are no keys', async () => {
    const id = await boot();
    for (const ssh_key of ['', 'hello', 'ssh-ed25519', 42, mine.private]) {
      const answer = await vendor.call('POST', `/api/v0/instances/${id}/ssh/`, { ssh_key });
      expect(answer.status, String(ssh_key)).toBe(400);
    }
  });
});

describe('what a machine answers', () => {
  it('ends with the machine: stopped and destroyed machines cut the connection', async () => {
    const id = await boot();
    await attach(id);
    const instance = await vendor.read(id);
    await vendor.call('DELETE', `/api/v0/instances/${id}/`, {});
    await expect(connect(directPort(instance), mine.private)).rejects.toThrow('ECONNREFUSED');
  });

  it('to nvidia-smi in its forms', async () => {
    const [offer] = await vendor.search({ num_gpus: { gte: 4 }, verified: { in: [true, false] }, limit: 1 });
    const id = await bootOffer(offer!);
    const count = Number(offer!['num_gpus']);
    const withUnits = await exec(id, "nvidia-smi --query-gpu='index, memory.total,driver_version' --format=csv");
    const lines = withUnits.stdout.trimEnd().split('\n');
    expect(lines[0]).toBe('index, memory.total [MiB], driver_version');
    expect(lines.slice(1)).toHaveLength(count);
    expect(lines[2]).toBe(`1, ${String(offer!['gpu_ram'])} MiB, ${String(offer!['driver_version'])}`);
    const listing = await exec(id, 'nvidia-smi -L');
    expect(listing.stdout.trimEnd().split('\n')).toHaveLength(count);
    expect(listing.stdout).toMatch(/^GPU 0: NVIDIA .+ \(UUID: GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\)\n/);
    expect((await exec(id, 'nvidia-smi')).stdout).toContain('Driver Version');
    expect(await exec(id, 'nvidia-smi --query-gpu=name,colour --format=csv')).toMatchObject({
      stdout: 'Field "colour" is not a valid field to query.\n\n',
      exitCode: 2,
    });
  });

  it('to lists of commands, and to commands it does not know', async () => {
    const id = await boot();
    await attach(id);
    expect(await exec(id, `echo "a  b" 'c' && uptime; false || echo d`)).toMatchObject({
      stdout: expect.stringMatching(/^a {2}b c\n up \d+ min.*\nd\n$/) as string,
      exitCode: 0,
    });
    expect(await exec(id, 'docker ps')).toEqual({
      stdout: '',
      stderr: 'bash: docker: command not found\n',
      exitCode: 127,
    });
  });

  it('to a person at a prompt', async () => {
    const id = await boot();
    await attach(id);
    const client = await connect(directPort(await vendor.read(id)), mine.private);
    const text = await new Promise<string>((resolve, reject) => {
      client.shell((error, channel) => {
        if (error) return reject(error);
        let seen = '';
        channel.on('data', (chunk: Buffer) => (seen += chunk.toString()));
        channel.on('close', () => resolve(seen));
        channel.write('nvidia-smi -X\u007f\u007f-L\rexit\r');
      });
    });
    client.end();
    expect(text).toContain('GPU 0: NVIDIA GeForce RTX 4090');
  });

  it('wrongly, when it has other GPUs than were sold', async () => {
    await vendor.addFault({
      provider: 'vastai',
      endpoint: 'machine',
      kind: 'wrong_gpu',
      gpuName: 'RTX 3060',
      numGpus: 2,
    });
    const id = await boot();
    await attach(id);
    const line = 'NVIDIA GeForce RTX 3060, 12288\n';
    expect((await exec(id, QUERY)).stdout).toBe(line + line);
    expect(await vendor.read(id)).toMatchObject({ gpu_name: 'RTX 4090', num_gpus: 1 });
  });

  it('not at all, silently or by cutting the connection, when told so', async () => {
    for (const [mode, said] of [
      ['silent', 'Timed out'],
      ['refused', /ECONNRESET|before handshake/i],
    ] as const) {
      await vendor.addFault({ provider: 'vastai', endpoint: 'machine', kind: 'ssh_never_answers', mode, times: 1 });
      const id = await boot();
      await attach(id);
      await expect(exec(id, QUERY), mode).rejects.toThrow(said);
    }
  });
});

it('hundreds of machines listen at once, each on a port of its own, with one host key', async () => {
  const many = await startVendor({ offers: 800 });
  for (let i = 0; i < 200; i++) await many.rent({ onstart: mine.public });
  await many.advance(BOOTED_MS);
  const machines = many.state().vastai.machines.filter((machine) => machine.actualStatus === 'running');
  expect(new Set(machines.map((machine) => machine.sshPort)).size).toBe(machines.length);
  expect(machines.length).toBeGreaterThanOrEqual(200);
  const keys = new Set<string>();
  for (const { sshPort } of machines.slice(-3)) {
    (await connect(sshPort!, mine.private, 'root', (key) => keys.add(key.toString('base64')))).end();
  }
  await many.close();
  expect(keys.size).toBe(1);
});

async function boot(extra: Json = {}): Promise<number> {
  const id = await vendor.rent(extra);
  await vendor.advance(BOOTED_MS);
  return id;
}

async function bootOffer(offer: Json): Promise<number> {
  const order = { client_id: 'me', image: 'a/b:c', disk: 20, label: 'big', onstart: mine.public };
  const bought = await vendor.call('PUT', `/api/v0/asks/${String(offer['id'])}/`, order);
  await vendor.advance(BOOTED_MS);
  return bought.body['new_contract'] as number;
}

function attach(id: number): ReturnType<Vendor['call']> {
  return vendor.call('POST', `/api/v0/instances/${id}/ssh/`, { ssh_key: mine.public });
}

function directPort(instance: Json): number {
  const ports = instance['ports'] as Record<string, { HostPort: string }[]>;
  return Number(ports['22/tcp']![0]!.HostPort);
}

function connect(
  port: number,
  privateKey: string,
  username = 'root',
  onHostKey: (key: Buffer) => void = () => {},
): Promise<InstanceType<typeof ssh2.Client>> {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    client.on('ready', () => resolve(client));
    client.on('error', reject);
    client.on('close', () => reject(new Error('closed')));
    const hostVerifier = (key: Buffer): boolean => {
      onHostKey(key);
      return true;
    };
    client.connect({ host: '127.0.0.1', port, username, privateKey, readyTimeout: 2000, hostVerifier });
  });
}

async function exec(
  id: number,
  command: string,
  privateKey = mine.private,
  username = 'root',
  input = '',
): Promise<{ stdout: string; stderr: string; exitCode: number }> {
  const client = await connect(directPort(await vendor.read(id)), privateKey, username);
  try {
    return await new Promise((resolve, reject) => {
      client.exec(command, (error, channel) => {
        if (error) return reject(error);
        const result = { stdout: '', stderr: '', exitCode: -1 };
        channel.on('data', (chunk: Buffer) => (result.stdout += chunk.toString()));
        channel.stderr.on('data', (chunk: Buffer) => (result.stderr += chunk.toString()));
        channel.on('exit', (code: number) => (result.exitCode = code));
        channel.on('close', () => resolve(result));
        channel.end(input);
      });
    });
  } finally {
    client.end();
  }
}
