/** As many `terraform_data` resources, which touch no provider: a yardstick for what keeping a state may cost. */
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Milliseconds; null: terraform is not installed. */
export async function measureTerraform(
  dir: string,
  resources: number,
): Promise<{ up: number; destroy: number } | null> {
  try {
    await run('terraform', ['version']);
  } catch {
    return null;
  }
  mkdirSync(dir);
  writeFileSync(join(dir, 'main.tf'), `resource "terraform_data" "many" {\n  count = ${resources}\n}\n`);
  const measure = async (...args: string[]): Promise<number> => {
    const startedAt = performance.now();
    await run('terraform', args, { cwd: dir, maxBuffer: 64 * 1024 * 1024 });
    return performance.now() - startedAt;
  };
  await measure('init', '-no-color');
  const up = await measure('apply', '-auto-approve', '-no-color');
  const destroy = await measure('destroy', '-auto-approve', '-no-color');
  console.log(`terraform, ${resources} resources: apply ${Math.round(up)} ms, destroy ${Math.round(destroy)} ms`);
  return { up, destroy };
}
