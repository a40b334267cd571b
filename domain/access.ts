/**
 * Access: which role may do what. A role belongs to a principal in one org; the deployment's admin is a mark besides.
 *
 *   viewer     reads
 *   operator   also changes what the org owns
 *   owner      also members and keys
 *   billing    reads money, nothing else
 */
export const ROLES = ['owner', 'operator', 'viewer', 'billing'] as const;
export type Role = (typeof ROLES)[number];

/**
 * What a route needs: `public` nothing · `agent` a node's own credential, which opens nothing else · `workspace` a short-lived token of one
 * workspace's repository · `member` any principal · `read`,
 * `read_money`, `change`, `own` by role · `admin` the deployment's admin.
 */
export const ACCESS_RULES = [
  'public',
  'agent',
  'workspace',
  'member',
  'read',
  'read_money',
  'change',
  'own',
  'admin',
] as const;
export type AccessRule = (typeof ACCESS_RULES)[number];

const ALLOWED: Record<Exclude<AccessRule, 'public' | 'agent' | 'workspace' | 'admin'>, readonly Role[]> = {
  member: ROLES,
  read: ['owner', 'operator', 'viewer'],
  read_money: ROLES,
  change: ['owner', 'operator'],
  own: ['owner'],
};

/** Of a person's or a program's principal; agents prove themselves to their routes. */
export function isAllowed(rule: AccessRule, caller: { role: Role; isAdmin: boolean }): boolean {
  if (rule === 'public') return true;
  if (rule === 'agent' || rule === 'workspace') return false;
  if (rule === 'admin') return caller.isAdmin;
  return ALLOWED[rule].includes(caller.role);
}

/** Roles that a rule lets in, for messages and documents. */
export function rolesFor(rule: Exclude<AccessRule, 'public' | 'agent' | 'workspace' | 'admin'>): readonly Role[] {
  return ALLOWED[rule];
}
