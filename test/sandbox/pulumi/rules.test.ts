/** The clouds' rules against the tables: a property that the SDK does not have would be a rule about nothing. */
import { describe, expect, it } from 'vitest';
import { AWS_RULES } from '../../../sandbox/pulumi/aws/rules.ts';
import { AZURE_RULES } from '../../../sandbox/pulumi/azure/rules.ts';
import type { PackageRules } from '../../../sandbox/pulumi/cloud-rules.ts';
import { GCP_RULES } from '../../../sandbox/pulumi/gcp/rules.ts';
import { KUBERNETES_RULES } from '../../../sandbox/pulumi/kubernetes/rules.ts';
import { loadTable, type PackageTable, type Shape } from '../../../sandbox/pulumi/tables/table.ts';

const ALL: readonly PackageRules[] = [AWS_RULES, AZURE_RULES, GCP_RULES, KUBERNETES_RULES];

function hasPath(table: PackageTable, shape: Shape, path: string): boolean {
  const [first = '', ...rest] = path.split('.');
  const kind = shape[first] ?? shape[`${first}!`];
  if (kind === undefined) return false;
  if (rest.length === 0) return true;
  const inner = /#([\w.]+)/.exec(kind)?.[1];
  return inner !== undefined && hasPath(table, table.shapes[inner] ?? {}, rest.join('.'));
}

describe.each(ALL)('the rules of $name', ({ name, types }) => {
  const table = loadTable(name);

  it('are about types that the table has', () => {
    expect(Object.keys(types).filter((type) => !(type in table.resources))).toEqual([]);
  });

  it('name inputs that the types have', () => {
    const wrong = Object.entries(types).flatMap(([type, { nameInput, replaceOn = [] }]) =>
      [...replaceOn, ...(nameInput === undefined ? [] : [nameInput])]
        .filter((path) => !hasPath(table, table.resources[type]?.in ?? {}, path))
        .map((path) => `${type} ${path}`),
    );
    expect(wrong).toEqual([]);
  });
});
