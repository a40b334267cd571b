/** Who the caller is and which stacks it sees. */
import { hasStateProject, listStateStacks } from '../../db/state-stacks.ts';
import { assertMay } from './state-principal.ts';
import { OWN_ORG, principalOf, type StateCall } from './state-call.ts';
import { notFound } from './state-error.ts';

const PAGE = 200;

/** Never more than what is implemented: deltas of checkpoints forget pending operations (a defect of the engine), so they are not offered. */
export function getCapabilities() {
  return Promise.resolve({
    capabilities: [
      { capability: 'batch-encrypt' },
      { capability: 'deployment-schema-version', version: 1, configuration: { version: 4 } },
    ],
  });
}

export function getUser(call: StateCall) {
  const principal = principalOf(call);
  const organization = { githubLogin: OWN_ORG, name: OWN_ORG, avatarUrl: '' };
  return Promise.resolve({
    id: principal.kind === 'person' ? principal.actor.id : principal.runId,
    githubLogin: OWN_ORG,
    name: OWN_ORG,
    email: '',
    avatarUrl: '',
    organizations: [organization],
    ...(principal.kind === 'person' ? { tokenInfo: { name: principal.actor.id, organization: OWN_ORG } } : {}),
  });
}

export function getDefaultOrganization() {
  return Promise.resolve({ GitHubLogin: OWN_ORG, Messages: [] });
}

export async function getUserStacks(call: StateCall) {
  const principal = principalOf(call);
  assertMay(principal, 'read', 'list stacks');
  if (principal.kind === 'run') return { stacks: [] };
  const { query } = call;
  const organization = query.get('organization');
  if (organization !== null && organization !== OWN_ORG && organization !== principal.orgId) return { stacks: [] };
  const [project, tagName, tagValue, after] = ['project', 'tagName', 'tagValue', 'continuationToken'].map((name) =>
    query.get(name),
  );
  const rows = await listStateStacks(call.db, {
    orgId: principal.orgId,
    ...(project ? { project } : {}),
    ...(tagName ? { tag: { name: tagName, ...(tagValue ? { value: tagValue } : {}) } } : {}),
    ...(after ? { after } : {}),
    limit: PAGE + 1,
  });
  const page = rows.slice(0, PAGE);
  const last = page.at(-1);
  return {
    stacks: page.map((row) => ({
      id: row.uuid,
      orgName: OWN_ORG,
      projectName: row.project,
      stackName: row.name,
      ...(row.last_update_at ? { lastUpdate: toSeconds(row.last_update_at) } : {}),
      resourceCount: row.resource_count,
      links: { self: '' },
    })),
    ...(rows.length > PAGE && last ? { continuationToken: `${last.project}/${last.name}` } : {}),
  };
}

export async function headProject(call: StateCall, project: string) {
  const principal = principalOf(call);
  assertMay(principal, 'read', 'look at projects');
  if (principal.kind === 'person' && (await hasStateProject(call.db, principal.orgId, project))) return {};
  throw notFound(`project ${project}`);
}

export function toSeconds(time: Date | null): number {
  return time === null ? 0 : Math.floor(time.getTime() / 1000);
}
