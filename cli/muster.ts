#!/usr/bin/env node
/**
 * The command line of Muster: a client over HTTP, with the same words as the API. This file is the only one of the CLI that touches
 * the process's environment and its end; the commands are listed in program.ts.
 */
import { enableCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

// oxlint-disable-next-line node/no-process-env -- the CLI is a program of its own; it reads its environment here and nowhere else
const { env } = process;

// Halves the time to start. In the user's own folder: whoever could write there could run code as the user anyway.
enableCompileCache(join(env['XDG_CACHE_HOME'] || join(env['HOME'] ?? homedir(), '.cache'), 'muster', 'compiled'));

// A reader that went away (`muster … | head`) is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const { runProgram } = await import('./program.ts');
process.exitCode = await runProgram(process.argv.slice(2), env);
