/**
 * The official download of the engine, as a short-lived program: `node engine/install.ts FOLDER` leaves FOLDER/bin/pulumi. It alone imports the Pulumi SDK
 * here, so that what calls it need not.
 */
import { parse } from 'semver';
import { PulumiCommand } from '@pulumi/pulumi/automation/cmd.js';
import { ENGINE_VERSION } from './version.ts';

const HOST = 'https://get.pulumi.com/latest-version';
/** Without Internet the answer is to be "no" at once: the SDK itself would wait two minutes. */
const CONNECT_LIMIT_MS = 5_000;

const [root] = process.argv.slice(2);
const version = parse(ENGINE_VERSION);
if (!root || !version) throw new Error('Use: node engine/install.ts FOLDER');
try {
  await reachHost();
  await PulumiCommand.install({ root, version });
} catch (error) {
  console.error(reasonOf(error));
  process.exitCode = 1;
}

async function reachHost(): Promise<void> {
  const answer = await fetch(HOST, { method: 'HEAD', signal: AbortSignal.timeout(CONNECT_LIMIT_MS) }).catch(
    (error: unknown) => {
      throw new Error(`${HOST} is not reachable within ${CONNECT_LIMIT_MS / 1000} s (${reasonOf(error)})`);
    },
  );
  if (!answer.ok) throw new Error(`${HOST} answered ${answer.status}`);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
