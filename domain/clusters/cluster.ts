/**
 * A cluster: a Kubernetes cluster that an org made through one of its stacks, or registered with a kubeconfig. What it is made of is its
 * stack's; this is how it is doing.
 *
 *   creating     accepted: its stack's first up, or the first look at a registered one, is under way → available | degraded |
 *                unavailable | failed | destroying
 *   failed       its first up did not end well; an up that does → creating
 *   available    its API answers and all its nodes are fit → degraded | unavailable | destroying
 *   degraded     its API answers, but some nodes are not fit → available | unavailable | destroying
 *   unavailable  its API does not answer or refuses us, or none of its nodes is ready → available | degraded | destroying
 *   stopped      stopped as a whole, by its cloud: nothing of it answers or costs; → creating (it was started) | destroying
 *   destroying   its stack is being destroyed → destroyed | unavailable (the destroy failed)
 *   destroyed    the end; of a registered one: forgotten, and nothing at it was changed
 *
 * Between the three healths it goes with hysteresis: {@link WORSE_AFTER} looks in a row that are worse, {@link BETTER_AFTER} that are
 * better, so that one lost packet pages nobody and one lucky answer calms nobody.
 */
export const CLUSTER_KINDS = ['eks', 'aks', 'onprem', 'registered'] as const;
export type ClusterKind = (typeof CLUSTER_KINDS)[number];

export const CLUSTER_HEALTHS = ['available', 'degraded', 'unavailable'] as const;
export type ClusterHealth = (typeof CLUSTER_HEALTHS)[number];

export const CLUSTER_STATUSES = [
  'creating',
  'failed',
  ...CLUSTER_HEALTHS,
  'stopped',
  'destroying',
  'destroyed',
] as const;
export type ClusterStatus = (typeof CLUSTER_STATUSES)[number];

export type ClusterPower = 'running' | 'stopped';

export const WORSE_AFTER = 3;
export const BETTER_AFTER = 2;

/** What one look at a cluster found. */
export interface ClusterLook {
  health: ClusterHealth;
  /** For people; null: nothing is wrong. */
  reason: string | null;
}

/** Looks in a row on one side of the present health. */
export interface HealthStreak {
  direction: 'worse' | 'better';
  count: number;
  /** The one nearest to the present health of those seen: what all of them support. */
  health: ClusterHealth;
}

export interface HealthState {
  /** null: never looked at with an answer. */
  health: ClusterHealth | null;
  streak: HealthStreak | null;
}

/** The health after one more look. A first answer that is not `unavailable` counts at once: there is nothing to keep to. */
export function nextHealth(state: HealthState, seen: ClusterHealth): HealthState {
  const { health, streak } = state;
  if (health === null && seen !== 'unavailable') return { health: seen, streak: null };
  if (seen === health) return { health, streak: null };
  const present = health === null ? -1 : severityOf(health);
  const direction = severityOf(seen) > present ? 'worse' : 'better';
  const isGoingOn = streak !== null && streak.direction === direction;
  const count = isGoingOn ? streak.count + 1 : 1;
  const nearest = isGoingOn ? nearer(direction, streak.health, seen) : seen;
  const isEnough = count >= (direction === 'worse' ? WORSE_AFTER : BETTER_AFTER);
  return isEnough ? { health: nearest, streak: null } : { health, streak: { direction, count, health: nearest } };
}

function nearer(direction: 'worse' | 'better', a: ClusterHealth, b: ClusterHealth): ClusterHealth {
  const isAMilder = severityOf(a) < severityOf(b);
  return (direction === 'worse') === isAMilder ? a : b;
}

function severityOf(health: ClusterHealth): number {
  return CLUSTER_HEALTHS.indexOf(health);
}

export interface NodeFitness {
  name: string;
  isReady: boolean;
  /** Kubernetes' own words: MemoryPressure, DiskPressure, PIDPressure, NetworkUnavailable. */
  pressures: readonly string[];
}

/** Judges nodes of an API that answered. Cordoned nodes are somebody's decision and count as fit. */
export function judgeNodes(nodes: readonly NodeFitness[]): ClusterLook {
  if (nodes.length === 0) return { health: 'degraded', reason: 'it has no nodes' };
  const unready = nodes.filter((node) => !node.isReady);
  if (unready.length === nodes.length) {
    const which = nodes.length === 1 ? 'its only node is not ready' : `none of its ${nodes.length} nodes is ready`;
    return { health: 'unavailable', reason: which };
  }
  const pressed = nodes.filter((node) => node.isReady && node.pressures.length > 0);
  const parts = [
    ...(unready.length > 0 ? [`${unready.length} of ${nodes.length} nodes not ready (${listNames(unready)})`] : []),
    ...(pressed.length > 0 ? [`under pressure: ${listPressures(pressed)}`] : []),
  ];
  return parts.length === 0 ? { health: 'available', reason: null } : { health: 'degraded', reason: parts.join('; ') };
}

const MAX_NAMED = 5;

function listNames(nodes: readonly NodeFitness[]): string {
  const names = nodes.slice(0, MAX_NAMED).map((node) => node.name);
  return [...names, ...(nodes.length > MAX_NAMED ? [`${nodes.length - MAX_NAMED} more`] : [])].join(', ');
}

function listPressures(nodes: readonly NodeFitness[]): string {
  const texts = nodes.slice(0, MAX_NAMED).map((node) => `${node.name} ${node.pressures.join(' ')}`);
  return [...texts, ...(nodes.length > MAX_NAMED ? [`${nodes.length - MAX_NAMED} more`] : [])].join(', ');
}

export type ClusterAction = 'scale' | 'upgrade' | 'start' | 'stop' | 'kubeconfig' | 'replace_kubeconfig' | 'delete';

/** What may be asked of a cluster now. */
export function allowedClusterActions(
  kind: ClusterKind,
  status: ClusterStatus,
  facts: { hasAccess: boolean; isUpdating: boolean },
): ClusterAction[] {
  if (status === 'destroying' || status === 'destroyed') return [];
  const access: ClusterAction[] = facts.hasAccess ? ['kubeconfig'] : [];
  if (kind === 'registered') return status === 'creating' ? [] : [...access, 'replace_kubeconfig', 'delete'];
  if (status === 'stopped') return facts.isUpdating ? [] : ['start', 'delete'];
  if (facts.isUpdating) return access;
  if (kind === 'onprem') return [...access, 'delete'];
  const isThere = status !== 'creating' && status !== 'failed';
  return ['scale', 'upgrade', ...(kind === 'aks' && isThere ? (['stop'] as const) : []), ...access, 'delete'];
}
