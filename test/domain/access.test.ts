import { describe, expect, it } from 'vitest';
import { ACCESS_RULES, isAllowed, ROLES } from '../../domain/access.ts';

describe('access', () => {
  it('is this table', () => {
    const table = Object.fromEntries(
      ROLES.map((role) => [role, ACCESS_RULES.filter((rule) => isAllowed(rule, { role, isAdmin: false }))]),
    );
    expect(table).toEqual({
      owner: ['public', 'member', 'read', 'read_money', 'change', 'own'],
      operator: ['public', 'member', 'read', 'read_money', 'change'],
      viewer: ['public', 'member', 'read', 'read_money'],
      billing: ['public', 'member', 'read_money'],
    });
  });

  it("gives what is the deployment's only to its admin, and the admin no more in the org than the role", () => {
    for (const role of ROLES) expect(isAllowed('admin', { role, isAdmin: true })).toBe(true);
    expect(isAllowed('change', { role: 'viewer', isAdmin: true })).toBe(false);
  });
});
