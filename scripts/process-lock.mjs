/**
 * A process lock: one holder per name on this machine, given up by the kernel when the holder dies.
 *
 * It is a listening socket (abstract on Linux), so there is no stale lock file to judge: kill -9 frees it at once, and a waiter learns of it by its
 * connection closing, not by polling. It does not reach other machines or network namespaces; what is shared between those is locked in Postgres.
 * Plain JavaScript, because bootstrap.mjs needs it before anything is installed.
 */
import { createHash } from 'node:crypto';
import { unlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';

/** Takes the lock called `name` (any text, usually a path), waiting for the holder; `onWait` is called once if there is one. Aborting `signal` rejects. Returns the release, safe to call twice. */
export async function acquireProcessLock(name, { onWait, signal } = {}) {
  let hasWaited = false;
  for (;;) {
    signal?.throwIfAborted();
    const release = await tryProcessLock(name);
    if (release) return release;
    if (!hasWaited) onWait?.();
    hasWaited = true;
    await holderGone(addressOf(name), signal);
  }
}

/** Takes the lock if it is free; null when another process (or this one) holds it. */
export async function tryProcessLock(name) {
  const address = addressOf(name);
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.unref();
    connections.add(socket);
  });
  const connections = new Set();
  const taken = await new Promise((resolve, reject) => {
    server.once('error', (error) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
    server.listen(address, () => resolve(true));
  });
  if (!taken) return null;
  server.unref();
  return async () => {
    if (!server.listening) return;
    await new Promise((resolve) => {
      server.close(resolve);
      for (const socket of connections) socket.destroy();
    });
  };
}

function addressOf(name) {
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 32);
  const uid = process.platform === 'win32' ? 0 : userInfo().uid;
  return isAbstract ? `\0muster-${uid}-${digest}` : join(tmpdir(), `muster-${uid}-${digest}.sock`);
}

const isAbstract = process.platform === 'linux' && Number(process.versions.uv.split('.')[1]) >= 46;

/** Resolves when the holder's end closes. A socket file whose holder died refuses connections: it is removed, so that the next try can listen. */
function holderGone(address, signal) {
  return new Promise((resolve, reject) => {
    const socket = connect(address);
    const onAbort = () => {
      socket.destroy();
      reject(signal.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.on('error', (error) => {
      if (error.code === 'ECONNREFUSED' && !isAbstract) unlinkSync(address);
    });
    socket.on('close', () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    socket.resume();
  });
}
