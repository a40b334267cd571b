import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { ConfigError, loadConfig, PROJECT_DIR, readEnvironment } from '../config.ts';
import { VARIABLES } from '../config-variables.ts';

const KEY = `mk_${'k'.repeat(40)}`;
const LIVE = { MUSTER_SANDBOX: 'off', MUSTER_DEPLOYMENT_ID: 'prod-1', MUSTER_VASTAI_API_KEY: 'a-real-vast-key' };

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function problemsOf(env: Record<string, string>): Record<string, string> {
  try {
    loadConfig(env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return Object.fromEntries(error.problems.map((problem) => [problem.variable, problem.message]));
  }
  return {};
}

function writeTemporary(name: string, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'muster-config-'));
  folders.push(folder);
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}

describe('an empty environment', () => {
  it('is the sandbox, all roles, nothing real and no warning', () => {
    const config = loadConfig({}, { cores: 4 });
    expect(config).toMatchObject({
      mode: 'sandbox',
      deploymentId: 'sandbox',
      roles: ['api', 'worker', 'cron'],
      warnings: [],
    });
    expect(config.database.url).toBeNull();
    expect(config.work.concurrency).toBe(4);
    expect(config.providers.vastai).toMatchObject({
      state: 'sandbox',
      url: 'http://127.0.0.1:8091',
      rateLimits: 'off',
    });
    expect(config.providers.vastai.apiKey?.reveal()).toBe('sandbox');
    expect(config.safety).toMatchObject({
      orphanPolicy: 'destroy',
      webhookTargets: 'any',
      maxInstances: 20,
      maxBurnMicroUsdPerHour: 50_000_000n,
    });
    expect(config.safety.maxLifetimeMs).toBe(12 * 3_600_000);
  });

  it('counts an empty value as unset', () => {
    expect(loadConfig({ MUSTER_PORT: '', DATABASE_URL: ' ' }).http.port).toBe(8080);
  });

  it('gives at least two and at most eight operation children by default', () => {
    expect([1, 6, 96].map((cores) => loadConfig({}, { cores }).work.concurrency)).toEqual([2, 6, 8]);
  });
});

describe('wrong settings', () => {
  it('are all reported at once, with name, value got and what is allowed', () => {
    const problems = problemsOf({
      MUSTER_SANDBOX: 'off',
      MUSTER_PORT: '80x',
      MUSTER_ROLES: 'api,cook',
      MUSTER_MAX_LIFETIME: '12',
      MUSTER_MAX_BURN_USD_PER_HOUR: '-1',
      MUSTER_VASTAI_URL: 'https://console.vast.ai/api/v0',
      MUSTER_ORPHAN_POLICY: 'shoot',
    });
    expect(Object.keys(problems).sort()).toEqual([
      'MUSTER_DEPLOYMENT_ID',
      'MUSTER_MAX_BURN_USD_PER_HOUR',
      'MUSTER_MAX_LIFETIME',
      'MUSTER_ORPHAN_POLICY',
      'MUSTER_PORT',
      'MUSTER_ROLES',
      'MUSTER_VASTAI_URL',
    ]);
    expect(problems['MUSTER_PORT']).toBe('got "80x"; allowed: an integer from 0 to 65535; 0 takes a free one');
    expect(problems['MUSTER_MAX_LIFETIME']).toContain('got "12"');
  });

  it.each([
    ['MUSTER_SANDBOX', 'true'],
    ['MUSTER_PORT', '65536'],
    ['MUSTER_HOST', 'a b'],
    ['MUSTER_DEPLOYMENT_ID', 'Prod'],
    ['MUSTER_DEPLOYMENT_ID', 'ext'],
    ['MUSTER_BOOT_TIMEOUT', '3 fortnights'],
    ['MUSTER_BOOT_TIMEOUT', '1 second'],
    ['MUSTER_VASTAI_RATE_LIMITS', '{"search": -1}'],
    ['MUSTER_VASTAI_RATE_LIMITS', '[1]'],
    ['MUSTER_PUBLIC_URL', 'ftp://example.com'],
    ['MUSTER_SANDBOX_TIME', 'slow'],
    ['DATABASE_URL', 'mysql://localhost/x'],
    ['DATABASE_URL', 'postgres://localhost/x?sslmode=maybe'],
    ['MUSTER_SECRETS_KEY', Buffer.alloc(31).toString('base64')],
    ['MUSTER_ADMIN_API_KEY', 'mk_short'],
    ['MUSTER_DATABASE_CA_FILE', '/does/not/exist.pem'],
  ])('%s=%s is refused', (name, value) => {
    expect(Object.keys(problemsOf({ [name]: value }))).toEqual([name]);
  });

  it('never show a secret', () => {
    const error = (() => {
      try {
        loadConfig({ MUSTER_ADMIN_API_KEY: 'hunter2hunter2', DATABASE_URL: 'mysql://u:hunter2@host/db' });
      } catch (thrown) {
        return thrown as ConfigError;
      }
      return undefined;
    })();
    expect(error?.problems).toHaveLength(2);
    expect(`${error?.message}${inspect(error)}`).not.toContain('hunter2');
  });
});

describe('outside the sandbox', () => {
  it('needs a deployment id', () => {
    expect(problemsOf({ MUSTER_SANDBOX: 'off' })['MUSTER_DEPLOYMENT_ID']).toContain(
      'is required with MUSTER_SANDBOX=off',
    );
  });

  it('is careful by default: documented rate limits, list lag, a longer grace', () => {
    const config = loadConfig(LIVE);
    expect(config.providers.vastai).toMatchObject({
      state: 'live',
      url: 'https://console.vast.ai',
      rateLimits: 'documented',
      listLagMs: 15_000,
    });
    expect(config.safety.orphanGraceMs).toBe(600_000);
  });

  it('says so when no provider has a key', () => {
    const config = loadConfig({ MUSTER_SANDBOX: 'off', MUSTER_DEPLOYMENT_ID: 'prod-1' });
    expect(config.providers.vastai.state).toBe('off');
    expect(config.warnings.join()).toContain('nothing can be rented');
  });
});

describe('in the sandbox', () => {
  it('a real key is pointed out and never used', () => {
    const config = loadConfig({ VASTAI_API_KEY: 'a-real-vast-key' });
    expect(config.warnings.join()).toContain('the sandbox is on');
    expect(config.providers.vastai.apiKey?.reveal()).toBe('sandbox');
  });

  it('a vendor address that is not on this machine is refused', () => {
    expect(problemsOf({ MUSTER_VASTAI_URL: 'https://console.vast.ai' })['MUSTER_VASTAI_URL']).toContain('this machine');
  });

  it('the simulated vendor follows the sandbox port, unless its address is given', () => {
    expect(loadConfig({ MUSTER_SANDBOX_PORT: '9100' }).providers.vastai.url).toBe('http://127.0.0.1:9101');
    const given = { MUSTER_SANDBOX_PORT: '9100', MUSTER_VASTAI_URL: 'http://127.0.0.1:7777/' };
    expect(loadConfig(given).providers.vastai.url).toBe('http://127.0.0.1:7777');
  });
});

describe('secrets', () => {
  const secrets = { ...LIVE, MUSTER_ADMIN_API_KEY: KEY, DATABASE_URL: 'postgres://u:hunter2@localhost/muster' };

  it('do not appear when the configuration is printed, logged or serialised', () => {
    const config = loadConfig(secrets);
    const printed = `${inspect(config, { depth: 9, showHidden: true })}${JSON.stringify(config)}${String(config.access.adminApiKey)}`;
    for (const text of [KEY, 'hunter2', 'a-real-vast-key']) expect(printed).not.toContain(text);
    expect(JSON.parse(JSON.stringify(config)).safety.maxBurnMicroUsdPerHour).toBe('50000000');
  });

  it('do not reach the environment of child programs', () => {
    const config = loadConfig({ ...secrets, PATH: '/bin', HOME: '/root', AWS_SECRET_ACCESS_KEY: 'x' });
    expect(config.childEnvironment).toEqual({ PATH: '/bin', HOME: '/root' });
  });

  it('are read from the file that <NAME>_FILE names, without its last line break', () => {
    const path = writeTemporary('key', `${KEY}\n`);
    expect(loadConfig({ MUSTER_ADMIN_API_KEY_FILE: path }).access.adminApiKey?.reveal()).toBe(KEY);
  });

  it('are refused where file and value are both set, and where the file is missing or empty', () => {
    const path = writeTemporary('key', '\n');
    expect(problemsOf({ MUSTER_ADMIN_API_KEY: KEY, MUSTER_ADMIN_API_KEY_FILE: path })).toHaveProperty(
      'MUSTER_ADMIN_API_KEY_FILE',
    );
    expect(problemsOf({ MUSTER_ADMIN_API_KEY_FILE: path })['MUSTER_ADMIN_API_KEY_FILE']).toContain('is empty');
    expect(problemsOf({ MUSTER_SECRETS_KEY_FILE: '/nope' })['MUSTER_SECRETS_KEY_FILE']).toContain('ENOENT');
  });

  it("are taken from the vendor's own names when ours is unset", () => {
    const { MUSTER_VASTAI_API_KEY: _, ...rest } = LIVE;
    expect(loadConfig({ ...rest, VAST_API_KEY: 'second-name' }).providers.vastai.apiKey?.reveal()).toBe('second-name');
    const both = { ...LIVE, VAST_API_KEY: 'second-name' };
    expect(loadConfig(both).providers.vastai.apiKey?.reveal()).toBe('a-real-vast-key');
  });
});

describe('warnings', () => {
  it('name unknown settings and what was probably meant', () => {
    const { warnings } = loadConfig({
      MUSTER_MAX_INSTANCE: '3',
      MUSTER_OCI_ENABLED: 'on',
      MUSTER_URL: 'http://x',
      MUSTER_PORT_FILE: 'x',
    });
    expect(warnings).toHaveLength(3);
    expect(warnings.join()).toContain('Did you mean MUSTER_MAX_INSTANCES?');
  });

  it('point out a remote database without TLS, and only that', () => {
    const warn = (url: string) =>
      loadConfig({ DATABASE_URL: url, MUSTER_SECRETS_KEY: Buffer.alloc(32).toString('base64') }).warnings;
    expect(warn('postgres://u:p@db.example.com/m').join()).toContain('without TLS');
    expect(warn('postgres://u:p@db.example.com/m?sslmode=prefer').join()).toContain('without TLS');
    expect(warn('postgres://u:p@db.example.com/m?sslmode=verify-full')).toEqual([]);
    expect(warn('postgres://u:p@127.0.0.1/m')).toEqual([]);
    expect(warn('postgres://u:p@%2Frun%2Fpostgresql/m')).toEqual([]);
  });
});

describe('the environment', () => {
  it('is what is really set over what .env says', () => {
    const envFile = writeTemporary('.env', 'MUSTER_PORT=9000\nMUSTER_HOST="0.0.0.0" # open\n');
    const env = readEnvironment({ env: { MUSTER_PORT: '9001' }, envFile });
    expect(loadConfig(env).http).toMatchObject({ host: '0.0.0.0', port: 9001 });
    expect(readEnvironment({ env: {}, envFile: '/does/not/exist' })).toEqual({});
  });
});

describe('the configuration', () => {
  it('is frozen through and through', () => {
    const config = loadConfig({});
    expect(() => Object.assign(config.safety, { maxInstances: 1000 })).toThrow(TypeError);
    expect(() => Object.assign(config.roles, { 0: 'cook' })).toThrow(TypeError);
  });

  it('is documented: docs/configuration.md is in step with the table', () => {
    const script = join(PROJECT_DIR, 'scripts', 'configuration-page.ts');
    const text = execFileSync(process.execPath, [script], { encoding: 'utf8' });
    for (const name of Object.keys(VARIABLES)) expect(text).toContain(`### \`${name}\``);
    execFileSync(process.execPath, [script, '--check'], { stdio: 'pipe' });
  });
});

describe('agents', () => {
  const agents = (env: Record<string, string>) => {
    const { agents, warnings } = loadConfig(env);
    return { isOn: agents.isOn, warning: warnings.find((text) => /agent/i.test(text)) ?? null };
  };

  it('are on in the sandbox without a word, and off when told so', () => {
    expect(agents({})).toEqual({ isOn: true, warning: null });
    expect(agents({ MUSTER_AGENT: 'off' })).toEqual({ isOn: false, warning: null });
  });

  it('are on for real machines where those can reach us', () => {
    for (const url of ['https://muster.example.com', 'http://8.8.8.8:8080'])
      expect(agents({ ...LIVE, MUSTER_PUBLIC_URL: url })).toEqual({ isOn: true, warning: null });
  });

  it('are off, and the start says why, where real machines cannot reach us, whatever is asked for', () => {
    expect(agents(LIVE)).toEqual({ isOn: false, warning: expect.stringMatching(/without MUSTER_PUBLIC_URL/) });
    for (const host of ['localhost', '127.0.0.1', '[::1]', '0.0.0.0'])
      expect(agents({ ...LIVE, MUSTER_AGENT: 'on', MUSTER_PUBLIC_URL: `http://${host}:8080` })).toEqual({
        isOn: false,
        warning: expect.stringMatching(/this very machine's own address/),
      });
    expect(agents({ ...LIVE, MUSTER_AGENT: 'off' }).warning).toBeNull();
  });

  it('are off on a private network until asked for in words, because such a machine would never be ready', () => {
    for (const host of ['10.0.0.8', '192.168.1.2', 'control', 'box.local', '[fd00::1]']) {
      const env = { ...LIVE, MUSTER_PUBLIC_URL: `http://${host}:8080` };
      expect(agents(env)).toEqual({
        isOn: false,
        warning: expect.stringMatching(/^Agents are off: .*private network/),
      });
      expect(agents({ ...env, MUSTER_AGENT: 'on' })).toEqual({
        isOn: true,
        warning: expect.stringMatching(/only machines in it become ready/),
      });
    }
  });
});

describe('the clouds', () => {
  const AWS = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'very-secret', AWS_REGION: 'eu-west-1' };
  const AZURE = { ARM_TENANT_ID: 't', ARM_CLIENT_ID: 'c', ARM_CLIENT_SECRET: 'very-secret' };

  it('are used only where they are on, live, and by their own variables', () => {
    expect(loadConfig({ ...LIVE, ...AWS }).clouds).toEqual({ aws: null, azure: null, environment: {} });
    expect(loadConfig({ ...AWS, MUSTER_AWS_ENABLED: 'on' }).clouds.environment).toEqual({});
    const { clouds } = loadConfig({ ...LIVE, ...AWS, ...AZURE, MUSTER_AWS_ENABLED: 'on' });
    expect(Object.keys(clouds.environment)).toEqual(Object.keys(AWS));
    expect(clouds.aws?.secretAccessKey.reveal()).toBe('very-secret');
    expect(clouds.azure).toBeNull();
    expect(loadConfig({ ...LIVE, ...AZURE, MUSTER_AZURE_ENABLED: 'on' }).clouds.azure?.tenantId).toBe('t');
  });

  it('do not show their secrets', () => {
    const config = loadConfig({ ...LIVE, ...AWS, MUSTER_AWS_ENABLED: 'on' });
    expect(inspect(config, { depth: 9 }) + JSON.stringify(config)).not.toContain('very-secret');
  });

  it('know no third way', () => {
    expect(problemsOf({ MUSTER_AWS_ENABLED: 'maybe' })).toEqual({
      MUSTER_AWS_ENABLED: 'got "maybe"; allowed: "on" or "off"',
    });
  });
});
