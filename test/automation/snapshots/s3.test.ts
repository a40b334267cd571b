import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as forward, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBucketClient, createBucketFiles, type BucketStore } from '../../../api/repository/bucket-files.ts';
import { parseStoreUrl } from '../../../domain/snapshots/store.ts';
import { resticMissing } from '../../support/restic.ts';
import { startSnapshotWorld, type SnapshotNode, type SnapshotWorld } from '../../support/snapshot-world.ts';
import { startS3Server, versitygwMissing, type S3Server } from '../../support/versitygw.ts';

const missing = resticMissing ?? versitygwMissing;

/** Between us and the store: faults as a store or a network makes them. */
interface Faults {
  endpoint: string;
  /** Of requests that match: answers 500, cuts the connection in the middle of the body, or waits first. */
  rule: ((method: string, path: string) => '500' | 'cut' | 'slow' | null) | null;
  count: number;
  close(): Promise<void>;
}

async function startFaults(target: string): Promise<Faults> {
  const faults: Faults = { endpoint: '', rule: null, count: 0, close: () => Promise.resolve() };
  const server: Server = createServer((request, response) => {
    const fault = faults.rule?.(request.method ?? '', request.url ?? '') ?? null;
    if (fault !== null) faults.count++;
    if (fault === '500') {
      request.resume();
      response.writeHead(500, { 'content-type': 'application/xml' });
      return void response.end('<Error><Code>InternalError</Code><Message>we are sorry</Message></Error>');
    }
    if (fault === 'cut') {
      request.once('data', () => request.socket.destroy());
      if (request.method === 'GET') request.socket.destroy();
      return;
    }
    const url = new URL(request.url ?? '/', target);
    const onward = forward(url, { method: request.method, headers: request.headers }, (reply) => {
      response.writeHead(reply.statusCode ?? 502, reply.headers);
      reply.pipe(response);
    });
    onward.on('error', () => response.destroy());
    setTimeout(() => request.pipe(onward), fault === 'slow' ? 200 : 0);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  faults.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  faults.close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return faults;
}

describe.skipIf(missing !== null)('snapshots on a store that speaks S3', { timeout: 90_000 }, () => {
  let s3: S3Server;
  let faults: Faults;
  let world: SnapshotWorld;
  beforeAll(async () => {
    s3 = await startS3Server(['bucket']);
    faults = await startFaults(s3.endpoint);
    const storeUrl = `s3://bucket/some/prefix?region=us-east-1&endpoint=${faults.endpoint}`;
    world = await startSnapshotWorld({ storeUrl, storeKey: s3.key });
    await world.startWorker();
  });
  afterAll(async () => {
    await world?.close();
    await faults?.close();
    await s3?.close();
  });

  function fill({ workspace }: SnapshotNode): void {
    mkdirSync(join(workspace, 'sub'));
    writeFileSync(join(workspace, 'sub', 'large'), randomBytes(9_000_000));
    writeFileSync(join(workspace, 'small'), 'small');
  }

  const folderOf = (instanceId: string) => join(s3.folder, 'bucket', 'some', 'prefix', instanceId);

  it('are taken through the gateway in parts, read back and restored', async () => {
    const { instanceId, node } = await world.makeInstance();
    fill(node);
    const snapshot = await world.settled(await world.begin(instanceId), 60_000);
    expect({ status: snapshot.status, detail: snapshot.failure_detail }).toEqual({ status: 'verified', detail: null });
    expect(readdirSync(folderOf(instanceId)).sort()).toEqual(
      expect.arrayContaining(['config', 'data', 'keys', 'snapshots']),
    );
    const other = await world.makeNode(instanceId);
    expect(await world.restore(snapshot.id, other.nodeId)).toMatchObject({ status: 'succeeded' });
    expect(
      readFileSync(join(other.workspace, 'sub', 'large')).equals(readFileSync(join(node.workspace, 'sub', 'large'))),
    ).toBe(true);
    expect(s3.key.secretAccessKey.length).toBeGreaterThan(8);
    expect(world.server.log.join('\n')).not.toContain(s3.key.secretAccessKey);
  });

  it('survive a store that answers 500, cuts connections and is slow', async () => {
    const { instanceId, node } = await world.makeInstance();
    fill(node);
    const hits = { '500': 0, cut: 0, slow: 0 };
    faults.rule = (method, path) => {
      if (!path.includes(instanceId)) return null;
      if (method === 'PUT' && path.includes('/data/') && hits['500'] < 3) return (hits['500']++, '500');
      if (method === 'PUT' && path.includes('/index/') && hits.cut < 1) return (hits.cut++, 'cut');
      if (method === 'GET' && hits.slow < 5) return (hits.slow++, 'slow');
      return null;
    };
    const snapshot = await world.settled(await world.begin(instanceId), 60_000);
    faults.rule = null;
    expect({ status: snapshot.status, detail: snapshot.failure_detail }).toEqual({ status: 'verified', detail: null });
    expect(hits['500']).toBe(3);
    expect(hits.cut).toBe(1);
  });

  it('are failed where the store has lost a pack', async () => {
    const { instanceId, node } = await world.makeInstance();
    fill(node);
    world.beforeRestic = (args) => {
      if (args.includes('ls')) rmSync(join(folderOf(instanceId), 'data'), { recursive: true });
      return Promise.resolve();
    };
    const snapshot = await world.settled(await world.begin(instanceId), 60_000);
    world.beforeRestic = () => Promise.resolve();
    expect(snapshot).toMatchObject({ status: 'failed', failure_code: 'snapshot_damaged' });
  });

  it('leave no unfinished parts where an upload was cut', async () => {
    const store = parseStoreUrl(`s3://bucket?region=us-east-1&endpoint=${s3.endpoint}`) as BucketStore;
    const client = createBucketClient(store, s3.key);
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: 'bucket' }));
    expect(Uploads).toEqual([]);
    // Begun, and given up by whoever sends: nothing of it stays either.
    const files = createBucketFiles(client, store, 'cut');
    const name = 'a'.repeat(64);
    async function* cut() {
      yield randomBytes(20_000_000);
      throw new Error('the sender is gone');
    }
    await expect(files.write({ type: 'data', name }, cut(), (show) => show())).rejects.toThrow('gone');
    expect(await files.size({ type: 'data', name })).toBeNull();
    const left = await client.send(new ListMultipartUploadsCommand({ Bucket: 'bucket' }));
    expect(left.Uploads ?? []).toEqual([]);
    client.destroy();
  });
});

describe.skipIf(missing !== null)('a node that goes to the bucket itself', { timeout: 90_000 }, () => {
  it('uses the short-lived key that it is given, and gets no token of ours', async () => {
    const s3 = await startS3Server(['bucket']);
    const given: string[] = [];
    const world = await startSnapshotWorld({
      storeUrl: `wasabi://bucket?region=us-east-1&endpoint=${s3.endpoint}`,
      storeKey: s3.key,
      access: 'direct',
      issueKey: ({ repository, access }) => {
        given.push(`${access} ${repository}`);
        return Promise.resolve({
          AWS_ACCESS_KEY_ID: s3.key.accessKeyId,
          AWS_SECRET_ACCESS_KEY: s3.key.secretAccessKey,
          AWS_DEFAULT_REGION: 'us-east-1',
        });
      },
    });
    try {
      await world.startWorker();
      const { instanceId, node } = await world.makeInstance();
      writeFileSync(join(node.workspace, 'a'), 'a');
      const snapshot = await world.settled(await world.begin(instanceId), 60_000);
      expect({ status: snapshot.status, detail: snapshot.failure_detail }).toEqual({
        status: 'verified',
        detail: null,
      });
      expect(given).toEqual([`write ${instanceId}`]);
      expect(await world.db.selectFrom('repository_tokens').selectAll().execute()).toEqual([]);
    } finally {
      await world.close();
      await s3.close();
    }
  });
});
