import { describe, expect, it } from 'vitest';
import { formatImageName, IMAGE_PATTERN, isImageAllowed, parseImageName } from '../../../domain/pods/image.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

describe('an image name', () => {
  it.each([
    ['busybox', 'docker.io/library/busybox:latest'],
    ['acme/tool:1', 'docker.io/acme/tool:1'],
    ['index.docker.io/acme/tool', 'docker.io/acme/tool:latest'],
    ['ghcr.io/acme/tool', 'ghcr.io/acme/tool:latest'],
    ['localhost:5000/tool:v2', 'localhost:5000/tool:v2'],
    ['localhost/tool', 'localhost/tool:latest'],
    [`busybox@${DIGEST}`, `docker.io/library/busybox@${DIGEST}`],
    [`ghcr.io/a/b:1@${DIGEST}`, `ghcr.io/a/b:1@${DIGEST}`],
  ])('%s is %s', (reference, whole) => {
    expect(formatImageName(parseImageName(reference))).toBe(whole);
    expect(formatImageName(parseImageName(whole))).toBe(whole);
  });
});

describe('the allow list', () => {
  it.each([
    ['busybox', '*', true],
    ['busybox', 'docker.io/library/*', true],
    ['busybox', 'busybox', true],
    ['busybox:1', 'busybox:1', true],
    ['busybox:2', 'busybox:1', false],
    ['busybox:2', 'busybox', true],
    ['evil/busybox', 'busybox', false],
    ['ghcr.io/acme/x', 'ghcr.io/acme/*', true],
    ['ghcr.io/acme-evil/x', 'ghcr.io/acme/*', false],
    ['ghcr.io.evil.example/acme/x', 'ghcr.io/acme/*', false],
    ['evil.example/ghcr.io/acme/x', 'ghcr.io/acme/*', false],
    [`ghcr.io/acme/x@${DIGEST}`, `ghcr.io/acme/x@${DIGEST}`, true],
    ['ghcr.io/acme/x', `ghcr.io/acme/x@${DIGEST}`, false],
  ])('%s by %s: %s', (image, pattern, isAllowed) => {
    expect(pattern).toMatch(IMAGE_PATTERN);
    expect(isImageAllowed(image, [pattern])).toBe(isAllowed);
  });

  it('that is empty allows nothing', () => {
    expect(isImageAllowed('busybox', [])).toBe(false);
  });

  it.each(['ghcr.io/*/x', '*foo', 'ghcr.io/acme*', 'A B', ''])('has no pattern like "%s"', (pattern) => {
    expect(pattern).not.toMatch(IMAGE_PATTERN);
  });
});
