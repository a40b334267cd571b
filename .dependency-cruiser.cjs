/**
 * Who may import whom. Each folder lists what it may import of ours; everything else of ours is refused. The reasons are in ARCHITECTURE.md.
 */

/** @param {string} folder a regular expression @param {string[]} allowed regular expressions of our files */
const only = (name, folder, allowed, comment, extra = {}) => ({
  name,
  comment,
  severity: 'error',
  from: { path: `^${folder}`, ...extra },
  to: { path: OURS, pathNot: [folder, ...allowed].map((path) => `^${path}`) },
});

const FOLDERS = [
  'domain',
  'secrets',
  'db',
  'providers-dynamic',
  'components',
  'stacks',
  'automation',
  'api',
  'agent',
  'cli',
  'web',
  'sandbox',
  'engine',
  'scripts',
  'bench',
  'test',
];
const OURS = `^((${FOLDERS.join('|')})/|[^/]+\\.(ts|mjs)$)`;
const LOCK = 'scripts/process-lock\\.(d\\.)?m[jt]s$';
const RESOURCE = 'providers-dynamic/([^/]+/resource|machine-resource)\\.ts$';
/** Schema only: what api, cli and web may know of stacks. */
const STACK_CONFIG = 'stacks/([^/]+/config|config-fields|config-values|schemas|stack-args)\\.ts$';
const PULUMI = '(^|/)node_modules/@pulumi/';

module.exports = {
  forbidden: [
    {
      name: 'domain-is-pure',
      comment: 'domain: values in, values out. No I/O, clock, randomness, packages or other folders (hashing is pure).',
      severity: 'error',
      from: { path: '^domain/' },
      to: { pathNot: ['^domain/', '^(node:)?crypto$'] },
    },
    only('secrets-imports', 'secrets/', ['domain/'], 'secrets know no database and no caller.'),
    only(
      'db-imports',
      'db/',
      ['domain/', 'secrets/', LOCK],
      'db maps rows to domain values; the process lock guards the embedded Postgres.',
    ),
    only(
      'providers-dynamic-imports',
      'providers-dynamic/',
      ['domain/'],
      'Adapters run inside Pulumi without a control plane: what they need is injected.',
    ),
    only('components-imports', 'components/', ['domain/', RESOURCE], 'Components are made of resources.'),
    only(
      'stacks-imports',
      'stacks/',
      ['components/', 'domain/', RESOURCE],
      'Programs are made of components and resources.',
    ),
    {
      name: 'stack-config-is-schema-only',
      comment: 'api, cli and web read it: zod and domain values, nothing else.',
      severity: 'error',
      from: { path: `^${STACK_CONFIG}` },
      to: { pathNot: ['^domain/', `^${STACK_CONFIG}`, '(^|/)node_modules/zod/'] },
    },
    {
      name: 'api-and-automation-meet-in-the-operation-row',
      comment: 'api never imports automation.',
      severity: 'error',
      from: { path: '^api/' },
      to: { path: '^automation/' },
    },
    {
      name: 'automation-and-api-meet-in-the-operation-row',
      comment: 'automation never imports api.',
      severity: 'error',
      from: { path: '^automation/' },
      to: { path: '^api/' },
    },
    only('api-imports', 'api/', ['domain/', 'db/', 'secrets/', STACK_CONFIG], 'The API reads and writes rows.'),
    only(
      'automation-imports',
      'automation/',
      ['domain/', 'db/', 'secrets/', 'providers-dynamic/', 'engine/'],
      'Only engine/child runs programs.',
      {
        pathNot: '^automation/engine/child/',
      },
    ),
    only(
      'engine-child-imports',
      'automation/engine/child/',
      ['automation/', 'domain/', 'db/', 'secrets/', 'providers-dynamic/', 'engine/', 'stacks/'],
      'The operation child also runs the stacks.',
    ),
    {
      name: 'contract-is-portable',
      comment: 'The contract is bundled into the CLI, the agent and the web page: zod and domain only.',
      severity: 'error',
      from: { path: '^api/contract/' },
      to: { pathNot: ['^api/contract/', '^domain/', '(^|/)node_modules/zod(-openapi)?/'] },
    },
    only('cli-imports', 'cli/', ['api/contract/', STACK_CONFIG], 'The CLI speaks HTTP.'),
    only('web-imports', 'web/', ['api/contract/', STACK_CONFIG], 'The page speaks HTTP.'),
    only('agent-imports', 'agent/', ['api/contract/'], 'The agent speaks HTTP and is bundled to one file.'),
    only(
      'sandbox-imports',
      'sandbox/',
      ['domain/'],
      'The simulated vendors share no code with the adapters that they test.',
    ),
    {
      name: 'sandbox-takes-domain-types-only',
      comment: 'A rule shared with the product would agree with its own mistakes.',
      severity: 'error',
      from: { path: '^sandbox/' },
      to: { path: '^domain/', dependencyTypesNot: ['type-only'] },
    },
    only('engine-imports', 'engine/', [LOCK], 'How the engine binary is obtained needs nothing of ours.'),
    only(
      'scripts-imports',
      'scripts/',
      ['config[^/]*\\.ts$'],
      'Scripts run before anything is installed; generators read the configuration schema.',
    ),
    {
      name: 'pulumi-stays-in-the-child',
      comment:
        'A Pulumi package costs 150 MB and seconds: only what the operation child, plain `pulumi up` or the simulated providers run.',
      severity: 'error',
      from: {
        path: OURS,
        pathNot: [
          '^automation/engine/child/',
          `^${RESOURCE}`,
          '^components/',
          '^stacks/',
          '^engine/install\\.ts$',
          '^sandbox/pulumi/',
          '^test/',
          '^bench/',
        ],
      },
      to: { path: PULUMI },
    },
    {
      name: 'programs-stay-in-the-child',
      comment: 'Programs, components and resources import Pulumi.',
      severity: 'error',
      from: {
        path: OURS,
        pathNot: ['^automation/engine/child/', `^${RESOURCE}`, '^components/', '^stacks/', '^test/', '^bench/'],
      },
      to: { path: ['^components/', `^${RESOURCE}`, '^stacks/'], pathNot: `^${STACK_CONFIG}` },
    },
    {
      name: 'main-never-reaches-pulumi',
      comment: 'Nothing that main.ts imports, however far, may reach a Pulumi package or a program.',
      severity: 'error',
      from: { path: '^main\\.ts$' },
      to: { path: [PULUMI, '^components/', `^${RESOURCE}`, `^(?!${STACK_CONFIG})stacks/`], reachable: true },
    },
    {
      name: 'product-never-imports-tests',
      severity: 'error',
      from: { path: OURS, pathNot: ['^test/', '^bench/', '^vitest\\.config\\.ts$'] },
      to: { path: ['^test/', '^bench/'] },
    },
    {
      name: 'no-circular',
      comment: 'Types may refer to each other; code may not.',
      severity: 'error',
      from: { path: OURS },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-nameless-folders',
      comment: 'A thing lives where its noun lives.',
      severity: 'error',
      from: { path: OURS },
      to: { path: '(^|/)(utils?|helpers?|common|core|services?)/', pathNot: 'node_modules/' },
    },
    { name: 'no-unresolved', severity: 'error', from: { path: OURS }, to: { couldNotResolve: true } },
    {
      name: 'product-uses-declared-dependencies',
      comment:
        'What runs in production is in dependencies of package.json; google-protobuf must be the very copy that @pulumi/pulumi brings.',
      severity: 'error',
      // derive.ts is run by developers only: it reads the SDKs' declarations with the TypeScript parser.
      from: {
        path: OURS,
        pathNot: ['^test/', '^bench/', '^[^/]+\\.config\\.ts$', '^sandbox/pulumi/tables/derive\\.ts$'],
      },
      to: {
        pathNot: '(^|/)node_modules/google-protobuf/',
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'],
        dependencyTypesNot: ['type-only'],
      },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: ['^test/fixtures/', '^bench/results/'] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'types', 'default'],
      extensions: ['.ts', '.mjs', '.js', '.cjs', '.json', '.d.ts'],
    },
  },
};
