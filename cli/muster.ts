#!/usr/bin/env node
/**
 * The command line of Muster: a client over HTTP, with the same words as the API. This file is the only one of the CLI that touches
 * the process (arguments, environment, exit); the commands are listed in program.ts.
 */
import { runProgram } from './program.ts';

// A reader that went away (`muster … | head`) is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

// oxlint-disable-next-line node/no-process-env -- the CLI is a program of its own; it reads its environment here and nowhere else
process.exitCode = await runProgram(process.argv.slice(2), process.env);
