import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { API_KEY, PASSWORD, startContractServer } from './contract-server.ts';
import type { ContractServer } from './contract-server.ts';
import { makeHome, runMuster } from './run-muster.ts';
import type { Home } from './run-muster.ts';

let server: ContractServer;
let home: Home;
beforeEach(async () => {
  server = await startContractServer();
  home = makeHome();
});
afterEach(async () => {
  home.remove();
  await server.close();
});

const profilesPath = () => join(home.path, 'config', 'muster', 'profiles.json');
const storedProfile = () => JSON.parse(readFileSync(profilesPath(), 'utf8')).profiles.default;
const WITH_PASSWORD = ['login', '--email', 'ada@example.com', '--password-file', '-'];

function logIn(args = WITH_PASSWORD, stdin = `${PASSWORD}\n`) {
  return runMuster(home, [...args, '--url', server.url], { stdin });
}

describe('muster login', () => {
  it('keeps tokens in a file that only the user can read, and says no secret', async () => {
    const { code, stdout, stderr } = await logIn();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('(operator of acme)');
    expect(statSync(profilesPath()).mode & 0o777).toBe(0o600);
    expect(statSync(join(home.path, 'config', 'muster')).mode & 0o777).toBe(0o700);
    expect(`${stdout}${stderr}`).not.toMatch(/correct horse|access-1|refresh-1/);
    expect(readFileSync(profilesPath(), 'utf8')).not.toContain(PASSWORD);
    expect((await runMuster(home, ['fleet'])).code).toBe(0);
  });

  it('takes an API key from a file, and from the environment', async () => {
    const path = join(home.path, 'key');
    writeFileSync(path, `${API_KEY}\n`);
    expect((await logIn(['login', '--api-key-file', path])).code).toBe(0);
    expect(storedProfile()).toEqual({ url: server.url, apiKey: API_KEY });
    const env = { MUSTER_API_KEY: API_KEY, MUSTER_URL: server.url };
    const { code, stdout } = await runMuster(home, ['login', '--api-key', '--profile', 'second', '--json'], { env });
    expect(code).toBe(0);
    expect(JSON.parse(stdout).org.name).toBe('acme');
  });

  it('repairs the mode of a file that others could read', async () => {
    await logIn();
    const { chmodSync } = await import('node:fs');
    chmodSync(profilesPath(), 0o644);
    await logIn();
    expect(statSync(profilesPath()).mode & 0o777).toBe(0o600);
  });

  it('keeps nothing and exits with 3 when the password is wrong', async () => {
    const { code, stderr } = await logIn(WITH_PASSWORD, 'wrong\n');
    expect(code).toBe(3);
    expect(stderr).toContain('e-mail or password is wrong (unauthenticated)');
    expect(() => statSync(profilesPath())).toThrow();
  });

  it('exits with 2 and says what to do where nobody can be asked', async () => {
    const { code, stderr } = await runMuster(home, ['login', '--url', server.url, '--email', 'ada@example.com']);
    expect(code).toBe(2);
    expect(stderr).toContain('--password-file');
    expect(server.requests).toEqual([]);
  });

  it('has no option that takes a secret as an argument', async () => {
    const { stdout } = await runMuster(home, ['login', '--help']);
    expect(stdout).toMatch(/--api-key {2,}/);
    expect(stdout).not.toMatch(/--password [<[]/);
  });
});

describe('a login', () => {
  it('is renewed when it ends soon, once, however many commands run at the same time', async () => {
    server.accessTokenExpiresAt = new Date(Date.now() + 20_000).toISOString();
    await logIn();
    const ended = await Promise.all([1, 2, 3].map(() => runMuster(home, ['fleet', '--json'])));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(server.requests.filter(({ path }) => path === '/auth/refresh')).toHaveLength(1);
    expect(storedProfile()).toMatchObject({ accessToken: 'access-2', refreshToken: 'refresh-2' });
  });

  it('is renewed when the server no longer takes the access token', async () => {
    await logIn();
    const profiles = JSON.parse(readFileSync(profilesPath(), 'utf8'));
    profiles.profiles.default.accessToken = 'revoked';
    writeFileSync(profilesPath(), JSON.stringify(profiles));
    expect((await runMuster(home, ['fleet'])).code).toBe(0);
  });

  it('is never shown to another address than the one it was made for', async () => {
    await logIn();
    const other = await startContractServer();
    const { code } = await runMuster(home, ['fleet', '--url', other.url]);
    expect(code).toBe(3);
    expect(other.requests.map(({ authorization }) => authorization)).toEqual([undefined]);
    await other.close();
  });

  it('is forgotten here and at the server by logout', async () => {
    await logIn();
    expect((await runMuster(home, ['logout'])).code).toBe(0);
    expect(storedProfile()).toEqual({ url: server.url });
    const told = server.requests.find(({ path }) => path === '/auth/logout');
    expect(told?.authorization).toBe('Bearer access-1');
    const after = await runMuster(home, ['fleet']);
    expect(after.code).toBe(3);
    expect(after.stderr).toContain('muster login');
  });
});

describe('a profile', () => {
  it('that does not exist is wrong use, with the known ones named', async () => {
    await logIn();
    const { code, stderr } = await runMuster(home, ['fleet', '--profile', 'prod']);
    expect(code).toBe(2);
    expect(stderr).toContain('There is no profile "prod"; known: default');
  });
});
