/** The client of Azure's resource manager against the sandbox's, which answers at its wire. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAzureManagement } from '../../../automation/clusters/azure-management.ts';
import { azureAccess } from '../../../automation/clusters/cloud-token.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';

const ID =
  '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/train/providers/Microsoft.ContainerService/managedClusters/train';
const CLUSTER = 'azure-native:containerservice:ManagedCluster';

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit', startMs: 1_000, clouds: 'short' });
  sandbox.clouds?.place({
    package: 'azure-native',
    type: CLUSTER,
    id: ID,
    inputs: { location: 'swedencentral' },
    outputs: { name: 'train', powerState: { code: 'Running' }, provisioningState: 'Succeeded' },
  });
});
afterAll(() => sandbox?.close());

const open = (token = 'sandbox') =>
  createAzureManagement(
    azureAccess(
      { aws: null, azure: null, sandboxToken: token, sandboxAzureUrl: `${sandbox.urls.control}/arm` },
      () => new Date(),
    ),
  );

describe("Azure's resource manager", () => {
  it('stops and starts a whole cluster, takes nothing else meanwhile, and says when it is done', async () => {
    const azure = open();
    expect(await azure.readCluster(ID)).toEqual({ power: 'running', provisioningState: 'Succeeded' });
    expect(await azure.switchPower(ID, 'stopped')).toBe('taken');
    expect(await azure.readCluster(ID)).toEqual({ power: 'stopped', provisioningState: 'Stopping' });
    expect(await azure.switchPower(ID, 'running')).toEqual({
      busy: expect.stringMatching(/^OperationNotAllowed: .* in progress stop/),
    });
    await sandbox.advance(60_000);
    expect(await azure.readCluster(ID)).toEqual({ power: 'stopped', provisioningState: 'Succeeded' });
    // As often as one likes.
    expect(await azure.switchPower(ID, 'stopped')).toBe('taken');
    expect(await azure.switchPower(ID, 'running')).toBe('taken');
    expect(await azure.readCluster(ID)).toMatchObject({ power: 'stopped', provisioningState: 'Starting' });
    await sandbox.advance(60_000);
    expect(await azure.readCluster(ID)).toEqual({ power: 'running', provisioningState: 'Succeeded' });
  });

  it('says of a cluster that is not there that it is not, and refuses a wrong token and any other id', async () => {
    const azure = open();
    expect(await azure.readCluster(`${ID}x`)).toBeNull();
    await expect(azure.switchPower(`${ID}x`, 'stopped')).rejects.toMatchObject({ kind: 'no_kubernetes' });
    await expect(open('other').readCluster(ID)).rejects.toMatchObject({
      kind: 'unauthorized',
      message: expect.stringMatching(/401 \(AuthenticationFailed/),
    });
    for (const id of ['/subscriptions/s', `${ID}/agentPools/gpu`, `${ID}?x`, `${ID}/../other`])
      await expect(azure.readCluster(id)).rejects.toMatchObject({ kind: 'no_kubernetes' });
  });

  it('that does not answer is out of reach, and without credentials there is no token', async () => {
    const now = () => new Date();
    const away = createAzureManagement(azureAccess({ aws: null, azure: null, sandboxToken: 'sandbox' }, now));
    await expect(away.readCluster(ID)).rejects.toMatchObject({ kind: 'unreachable' });
    const none = createAzureManagement(azureAccess({ aws: null, azure: null, sandboxToken: null }, now));
    await expect(none.readCluster(ID)).rejects.toMatchObject({ kind: 'no_token' });
  });
});
