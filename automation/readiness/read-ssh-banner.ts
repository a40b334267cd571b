/** Whether something speaks SSH at an address: its first line, without a login that a host of others might take for an attack. */
import { connect } from 'node:net';

const MAX_LINE = 256;

/** Never throws. */
export function readSshBanner(target: { host: string; port: number }, timeoutMs: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(target.port, target.host);
  const timer = setTimeout(() => end(false), timeoutMs);
  let text = '';
  function end(isSsh: boolean): void {
    clearTimeout(timer);
    socket.destroy();
    resolve(isSsh);
  }
  socket.on('data', (data) => {
    text += data.toString('latin1');
    if (/^SSH-/m.test(text)) end(true);
    else if (text.length > MAX_LINE) end(false);
  });
  socket.on('error', () => end(false));
  socket.on('close', () => end(false));
  return promise;
}
