/**
 * The way of one simulated machine to the control plane: a forwarder of its own, so that it can be cut while the machine lives. What is
 * cut is silent, as in a real partition: connections stay open and nothing comes through; they are broken off when the way is back.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Uplink {
  /** As the machine's agent is told it. */
  url: string;
  readonly isPartitioned: boolean;
  partition(isOn: boolean): void;
  close(): void;
}

/** Of an address with TLS there is no forwarder, because its certificate would not fit: then nothing can be cut. */
export async function openUplink(url: string): Promise<Uplink> {
  const target = new URL(url);
  if (target.protocol !== 'http:') return { url, isPartitioned: false, partition: () => {}, close: () => {} };
  const sockets = new Set<Socket>();
  let isPartitioned = false;

  function keep(socket: Socket): Socket {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    return socket.on('close', () => sockets.delete(socket));
  }

  function forward(near: Socket): void {
    const far = keep(connect(Number(target.port || 80), target.hostname.replace(/^\[|\]$/g, '')));
    near.pipe(far).pipe(near);
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  }

  const server = createServer((near) => {
    keep(near);
    if (isPartitioned) near.pause();
    else forward(near);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  server.unref();
  const own = new URL(url);
  own.hostname = '127.0.0.1';
  own.port = String((server.address() as AddressInfo).port);
  return {
    url: own.href.replace(/\/+$/, ''),
    get isPartitioned() {
      return isPartitioned;
    },
    partition(isOn) {
      if (isOn === isPartitioned) return;
      isPartitioned = isOn;
      for (const socket of sockets) {
        if (isOn) socket.unpipe().pause();
        else socket.destroy();
      }
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
