/** States of a running Muster, asked for as the engine's CLI asks for them. */
import type { VersionedDeployment } from '../../domain/state/deployment.ts';
import { ADMIN_KEY } from './muster-process.ts';

const OWN = 'stacks/organization/muster';

/** Names of the stacks that its runner has. */
export async function listStates(musterUrl: string): Promise<string[]> {
  const text = await ask(musterUrl, 'GET', 'user/stacks?project=muster');
  return (JSON.parse(text) as { stacks: { stackName: string }[] }).stacks.map(({ stackName }) => stackName);
}

/** As it is kept: secrets are sealed in it. */
export function readStateText(musterUrl: string, name: string): Promise<string> {
  return ask(musterUrl, 'GET', `${OWN}/${name}/export`);
}

/** Puts another state in the place of the one that is kept. */
export async function changeState(
  musterUrl: string,
  name: string,
  change: (state: VersionedDeployment) => VersionedDeployment,
): Promise<void> {
  const state = JSON.parse(await readStateText(musterUrl, name)) as VersionedDeployment;
  await ask(musterUrl, 'POST', `${OWN}/${name}/import`, change(state));
}

async function ask(musterUrl: string, method: string, path: string, body?: unknown): Promise<string> {
  const reply = await fetch(`${musterUrl}/api/${path}`, {
    method,
    headers: { authorization: `token ${ADMIN_KEY}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${method} ${path}: ${text}`);
  return text;
}
