/** Probing a machine over SSH: does it answer, does it let our key in, which GPUs does nvidia-smi show. Decides nothing. */
import type { ConnectConfig } from 'ssh2';
import { parseNvidiaSmiCsv, type SshProbe } from '../../domain/readiness.ts';

const COMMAND = 'nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits';
const MAX_OUTPUT_BYTES = 64 * 1024;

export interface SshTarget {
  host: string;
  port: number;
  user: string;
}

/**
 * Never throws: what went wrong is part of what it found.
 * @param timeoutMs bound on the whole probe
 * @param script run by a shell before the look, through its standard input; where it fails there is no look
 */
export async function probeSsh(
  target: SshTarget,
  privateKey: string,
  timeoutMs: number,
  script: string | null = null,
): Promise<SshProbe> {
  const { default: ssh2 } = await import('ssh2'); // 19 MB that a control plane at rest does without
  return new Promise((resolve) => {
    const client = new ssh2.Client();
    const found: SshProbe = { reached: false, authenticated: false, gpus: null, detail: null };
    const timer = setTimeout(() => end(`no answer within ${timeoutMs / 1000} s`), timeoutMs);
    function end(detail: string | null): void {
      clearTimeout(timer);
      client.destroy();
      resolve({ ...found, detail });
    }
    function look(): void {
      run(COMMAND, null, (code, output) => {
        found.gpus = code === 0 ? parseNvidiaSmiCsv(output) : null;
        end(code === 0 ? null : `nvidia-smi ended with ${code}`);
      });
    }
    function run(command: string, input: string | null, done: (code: number | null, output: string) => void): void {
      client.exec(command, (error, stream) => {
        if (error) return end(error.message);
        let output = '';
        stream.on('data', (data: Buffer) => (output = (output + data.toString()).slice(0, MAX_OUTPUT_BYTES)));
        stream.stderr.resume();
        stream.on('close', (code: number | null) => done(code, output));
        if (input !== null) stream.end(input);
      });
    }
    client
      // The handshake is many small writes, each of which would wait for the other side's delayed acknowledgement.
      .on('connect', () => client.setNoDelay(true))
      .on('handshake', () => (found.reached = true))
      .on('ready', () => {
        found.reached = true;
        found.authenticated = true;
        if (script === null) return look();
        run('sh -s', script, (code) => (code === 0 ? look() : end(`preparing it ended with ${code}`)));
      })
      .on('error', (error) => {
        if (error.level === 'client-authentication') found.reached = true;
        end(error.message);
      });
    try {
      client.connect(connection(target, privateKey, timeoutMs));
    } catch (error) {
      end(error instanceof Error ? error.message : String(error)); // such as a key that cannot be read
    }
  });
}

/**
 * A rented machine's host key is new each time and told by nobody, so there is nothing to compare it with. What is sent to it is what its
 * vendor gets of every machine: a script with the user's environment.
 */
function connection(target: SshTarget, privateKey: string, timeoutMs: number): ConnectConfig {
  return {
    host: target.host,
    port: target.port,
    username: target.user,
    privateKey,
    readyTimeout: timeoutMs,
    keepaliveInterval: 0,
  };
}
