import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  formatWebhookSecret,
  judgeTry,
  MAX_ASKED_MS,
  MAX_FAILING_MS,
  MAX_TRIES,
  signDelivery,
  webhookKey,
} from '../../domain/webhook.ts';

const NOW = 1_000_000_000;
const answer = (status: number | null, retryAfterMs: number | null = null) => ({ status, retryAfterMs });

describe('a try', () => {
  it.each([200, 201, 204, 299])('that is answered %i has succeeded', (status) => {
    expect(judgeTry(answer(status), 1, NOW - 2 * MAX_FAILING_MS, NOW)).toEqual({ kind: 'succeeded' });
  });

  it.each([null, 100, 301, 302, 400, 404, 429, 500, 503])(
    'that is answered %s is repeated until the bound',
    (status) => {
      expect(judgeTry(answer(status), 1, null, NOW)).toEqual({ kind: 'again', askedMs: 0 });
      expect(judgeTry(answer(status), MAX_TRIES - 1, NOW, NOW)).toEqual({ kind: 'again', askedMs: 0 });
      expect(judgeTry(answer(status), MAX_TRIES, NOW, NOW)).toEqual({ kind: 'failed' });
    },
  );

  it('is repeated when the receiver asks for it, within bounds', () => {
    expect(judgeTry(answer(429, 60_000), 1, null, NOW)).toEqual({ kind: 'again', askedMs: 60_000 });
    expect(judgeTry(answer(503, 1e12), 1, null, NOW)).toEqual({ kind: 'again', askedMs: MAX_ASKED_MS });
  });

  it('disables a webhook that is gone or has taken nothing for days', () => {
    expect(judgeTry(answer(410), 1, null, NOW)).toMatchObject({ kind: 'disable' });
    expect(judgeTry(answer(500), 2, NOW - MAX_FAILING_MS + 1, NOW)).toMatchObject({ kind: 'again' });
    expect(judgeTry(answer(null), 2, NOW - MAX_FAILING_MS, NOW)).toEqual({
      kind: 'disable',
      reason: 'it has taken no delivery for 3 days',
    });
  });
});

describe('the signature', () => {
  it('is of id, time and body, under every secret that counts', () => {
    const old = formatWebhookSecret(Buffer.alloc(32, 1));
    const fresh = formatWebhookSecret(Buffer.alloc(32, 2));
    expect(old).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    const header = signDelivery([webhookKey(fresh), webhookKey(old)], 'dlv_x', 1_700_000_000, '{"a":1}');
    const expected = [2, 1].map(
      (byte) =>
        `v1,${createHmac('sha256', Buffer.alloc(32, byte)).update('dlv_x.1700000000.{"a":1}').digest('base64')}`,
    );
    expect(header.split(' ')).toEqual(expected);
  });

  it('is the one of the specification of Standard Webhooks', () => {
    // The example of its own reference libraries.
    const key = webhookKey('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
    const header = signDelivery([key], 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1_614_265_330, '{"test": 2432232314}');
    expect(header).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  });
});
