/**
 * The gateway to the repositories of workspaces: restic's REST protocol for nodes that take or restore a snapshot. Content is streamed and
 * held against its name; nodes add and read, and remove nothing but their own locks. A write is shown only while its epoch stands.
 * Source: https://restic.readthedocs.io/en/stable/REST_backend.html
 */
import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import type { Request, Response } from 'express';
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import {
  digestOfRepositoryFile,
  isRepositoryFileName,
  MAX_REPOSITORY_FILE_BYTES,
  mayDo,
  REPOSITORY_FILE_TYPES,
  type RepositoryDeed,
  type RepositoryFile,
} from '../../domain/snapshots/repository-file.ts';
import { inTransaction } from '../../db/database.ts';
import { openRepository, type RepositoryAccess } from '../../db/repository-tokens.ts';
import { repositoryTokenOf } from '../authentication.ts';
import type { ByteRange, RepositoryFiles, StoredFile } from '../repository/repository-files.ts';
import { id } from '../contract/values.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'snapshots';
const LIST_V2 = 'application/vnd.x.restic.rest.v2';
const CONTENT = 'application/octet-stream';
/** A node that sends and takes nothing for so long is gone. */
const SILENT_MS = 120_000;

const workspaceParams = z.object({ instanceId: id('instance') });
const typeParams = workspaceParams.extend({ type: z.enum(REPOSITORY_FILE_TYPES) });
const fileParams = typeParams.extend({
  name: z.string().refine(isRepositoryFileName, 'is no SHA-256 in lower-case hex'),
});

type WorkspaceCall<P> = Call<'workspace', P>;
const PATH = '/workspaces/:instanceId/repository';

export const repositoryRoutes: Route[] = [
  route({
    method: 'get',
    path: `${PATH}/config`,
    access: 'workspace',
    area: AREA,
    summary: "A workspace's repository: its config, by restic's REST protocol",
    params: workspaceParams,
    replies: { 200: CONTENT },
    handle: (call) => sendFile(call, { type: 'config' }),
  }),
  route({
    method: 'get',
    path: `${PATH}/:type`,
    access: 'workspace',
    area: AREA,
    summary: 'The names and sizes of its files of one type',
    params: typeParams,
    replies: { 200: LIST_V2 },
    handle: sendList,
  }),
  route({
    method: 'get',
    path: `${PATH}/:type/:name`,
    access: 'workspace',
    area: AREA,
    summary: 'One of its files, or a range of it',
    params: fileParams,
    replies: { 200: CONTENT, 206: CONTENT },
    handle: (call) => sendFile(call, call.params),
  }),
  route({
    method: 'post',
    path: `${PATH}/:type/:name`,
    access: 'workspace',
    area: AREA,
    summary: 'Add a file, whose name is the SHA-256 of its content',
    params: fileParams,
    replies: { 200: null },
    problems: ['malformed_request', 'body_too_large'],
    handle: takeFile,
  }),
  route({
    method: 'delete',
    path: `${PATH}/:type/:name`,
    access: 'workspace',
    area: AREA,
    summary: 'Take a lock back; nothing else can be removed',
    params: fileParams,
    replies: { 200: null },
    async handle(call) {
      const { files } = await open(call, 'remove', call.params);
      await atStore(() => files.remove(call.params));
      return { status: 200 };
    },
  }),
];

interface Opened {
  token: string;
  access: RepositoryAccess;
  files: RepositoryFiles;
}

/** Throws MusterError `unauthenticated` or `forbidden`. */
async function open(
  { request, deps, params }: WorkspaceCall<{ instanceId: string }>,
  deed: RepositoryDeed,
  file: { type: RepositoryFile['type'] },
): Promise<Opened> {
  const token = repositoryTokenOf(request);
  const access = admitted(await openRepository(deps.database.kysely, token, params.instanceId));
  if (!mayDo(access.access, deed, file.type)) {
    throw new MusterError('forbidden', `this token may not ${deed} ${file.type}`);
  }
  request.setTimeout(SILENT_MS);
  return { token, access, files: await deps.openRepositoryFiles(access.storeUrl, access.repository) };
}

function admitted(outcome: Awaited<ReturnType<typeof openRepository>>): RepositoryAccess {
  if (outcome.kind === 'open') return outcome.access;
  switch (outcome.reason) {
    case 'fenced':
      throw new MusterError('forbidden', 'fenced: another machine writes this workspace now');
    case 'other_workspace':
      throw new MusterError('forbidden', 'the token is of another workspace');
    case 'not_made':
      throw new MusterError('not_found', 'the repository is not made yet');
    default:
      throw new MusterError('unauthenticated', `the token is ${outcome.reason}`);
  }
}

async function sendFile(call: WorkspaceCall<{ instanceId: string }>, file: RepositoryFile): Promise<undefined> {
  const { request, response } = call;
  const { files } = await open(call, 'read', file);
  const size = await atStore(() => files.size(file));
  if (size === null) throw new MusterError('not_found', 'there is no such file in the repository');
  const range = rangeOf(request, size);
  response.type(CONTENT);
  response.setHeader('accept-ranges', 'bytes');
  response.setHeader('content-length', range === null ? size : range.end - range.start + 1);
  if (range !== null) response.status(206).setHeader('content-range', `bytes ${range.start}-${range.end}/${size}`);
  if (request.method === 'HEAD' || size === 0) response.end();
  else await stream(response, await atStore(() => files.read(file, range)));
  return undefined;
}

async function sendList(call: WorkspaceCall<z.infer<typeof typeParams>>): Promise<undefined> {
  const { request, response, params } = call;
  const { files } = await open(call, 'read', params);
  const isV2 = (request.headers.accept ?? '').includes(LIST_V2);
  response.type(isV2 ? LIST_V2 : 'application/vnd.x.restic.rest.v1');
  await stream(response, listText(files.list(params.type), isV2));
  return undefined;
}

/** A pack more or less: a list of millions is never whole in memory. */
async function* listText(found: AsyncIterable<StoredFile>, isV2: boolean): AsyncGenerator<string> {
  let text = '[';
  let isFirst = true;
  for await (const { name, size } of found) {
    if (!isRepositoryFileName(name)) continue;
    text += `${isFirst ? '' : ','}${isV2 ? `{"name":"${name}","size":${size}}` : `"${name}"`}`;
    isFirst = false;
    if (text.length > 16_384) {
      yield text;
      text = '';
    }
  }
  yield `${text}]`;
}

async function takeFile(call: WorkspaceCall<z.infer<typeof fileParams>>) {
  const { request, params: file, deps } = call;
  const { token, files } = await open(call, 'add', file);
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > MAX_REPOSITORY_FILE_BYTES) throw tooLarge();
  const { kysely } = deps.database;
  async function publish(show: () => Promise<void>): Promise<void> {
    // Data that no snapshot names is harmless, and its way to the store may be long: no transaction is held for it.
    if (file.type !== 'snapshots') {
      admitted(await openRepository(kysely, token, file.instanceId));
      return show();
    }
    // Whoever becomes the writer now waits for us, or we find that he did.
    await inTransaction(kysely, async (tx) => {
      admitted(await openRepository(tx, token, file.instanceId, { isLocked: true }));
      await show();
    });
  }
  await atStore(() => files.write(file, checked(request, digestOfRepositoryFile(file)), publish));
  return { status: 200 };
}

/** The body, refused at its end where it is not what its name says, and on the way where it grows too large. */
async function* checked(request: Request, digest: string | null): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_REPOSITORY_FILE_BYTES) throw tooLarge();
    hash.update(chunk);
    yield chunk;
  }
  if (digest !== null && hash.digest('hex') !== digest) {
    throw new MusterError('malformed_request', 'the content is not what its name, a SHA-256, says');
  }
}

function tooLarge(): MusterError {
  return new MusterError('body_too_large', `a file of a repository has at most ${MAX_REPOSITORY_FILE_BYTES} bytes`);
}

/** Once it has begun nothing can be said any more: the connection is cut, so that nobody takes a part for the whole. */
async function stream(response: Response, content: AsyncIterable<unknown>): Promise<void> {
  try {
    await pipeline(content, response);
  } catch {
    response.destroy();
  }
}

/** What goes wrong at the store may go right later. Throws MusterError `unavailable` for it. */
async function atStore<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MusterError) throw error;
    throw new MusterError('unavailable', 'the store of snapshots does not do it now', { cause: error });
  }
}

/** null: all of it. Only one range is known to restic. */
function rangeOf(request: Request, size: number): ByteRange | null {
  const found = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(request.headers.range ?? '');
  if (!found) return null;
  const start = Number(found[1]);
  const end = found[2] === '' ? size - 1 : Math.min(size - 1, Number(found[2]));
  return start > end ? null : { start, end };
}
