/** A line to a server that can be cut and mended: what was open ends at once, what comes meanwhile is refused, as by a server that is down. */
import { createServer, connect, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface CutLine {
  port: number;
  cut(): Promise<void>;
  /** On the same port. */
  mend(): Promise<void>;
  /** The server does the next commit; that it did gets lost with the connection. */
  loseCommit(): void;
  close(): Promise<void>;
}

/** Postgres' word for it. */
const COMMITTED = 'COMMIT\0';

/** @param to the server's port on loopback */
export async function openCutLine(to: number): Promise<CutLine> {
  const open = new Set<Socket>();
  let isLosing = false;
  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1');
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        open.delete(socket);
        other.destroy();
      });
    }
    far.on('data', (data: Buffer) => {
      if (!isLosing || !data.includes(COMMITTED)) return;
      isLosing = false;
      near.destroy();
    });
    near.pipe(far);
    far.pipe(near);
  });
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => resolve());
    });
  await listen(0);
  const { port } = server.address() as AddressInfo;
  const cut = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of open) socket.destroy();
    await closed;
  };
  const loseCommit = () => void (isLosing = true);
  return {
    port,
    cut,
    loseCommit,
    mend: () => listen(port),
    close: () => (server.listening ? cut() : Promise.resolve()),
  };
}
