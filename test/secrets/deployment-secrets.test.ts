import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';
import { formatLabel, readLabel } from '../../domain/label.ts';
import { createLabelMac, makeLabelKey, makeSshKeyPair, makeTokenSigningKey } from '../../secrets/deployment-secrets.ts';

describe('what a deployment makes once', () => {
  it('a label key whose MAC signs labels that only it recognises', () => {
    const mac = createLabelMac(makeLabelKey().secret);
    const label = formatLabel('sandbox', 'att_abcdefghijklmnop', mac);
    expect(readLabel(label, 'sandbox', mac)).toEqual({ owner: 'ours', attemptId: 'att_abcdefghijklmnop' });
    expect(readLabel(label, 'sandbox', createLabelMac(makeLabelKey().secret))).toEqual({ owner: 'foreign' });
  });

  it('an Ed25519 pair that signs', () => {
    const { secret, publicPart } = makeTokenSigningKey();
    const signature = sign(null, Buffer.from('x'), createPrivateKey(secret));
    expect(verify(null, Buffer.from('x'), createPublicKey(publicPart as string), signature)).toBe(true);
  });

  it("an SSH pair in OpenSSH's formats", async () => {
    const { secret, publicPart } = await makeSshKeyPair('muster-sandbox');
    expect(publicPart).toMatch(/^ssh-ed25519 [A-Za-z0-9+/=]+ muster-sandbox$/);
    const parsed = ssh2.utils.parseKey(secret);
    if (parsed instanceof Error) throw parsed;
    expect(parsed.isPrivateKey()).toBe(true);
  });
});
