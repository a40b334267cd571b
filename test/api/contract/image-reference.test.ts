import { describe, expect, it } from 'vitest';
import { DEFAULT_IMAGE } from '../../../domain/provision-request.ts';
import { isImageReference } from '../../../api/contract/image-reference.ts';

describe('an image reference', () => {
  it.each([
    DEFAULT_IMAGE,
    'ubuntu',
    'pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime',
    'ghcr.io/a/b/c:tag',
    'localhost/x',
    'registry:5000/x:1',
    'my-registry.example.com:443/team_a/x__y.z@sha256:'.concat('a'.repeat(64)),
    `ubuntu:24.04@sha256:${'0'.repeat(64)}`,
  ])('is %s', (text) => expect(isImageReference(text)).toBe(true));

  it.each([
    '',
    ' ',
    'a b',
    'UPPER',
    'PyTorch/pytorch',
    'x:',
    ':x',
    'x@sha256:abc',
    '/x',
    'x/',
    'a//b',
    'x;rm -rf',
    'https://x/y',
    `${'a'.repeat(256)}`,
    'x:ta g',
    '-x',
  ])('is not %j', (text) => expect(isImageReference(text)).toBe(false));

  it('takes no long time to be refused', () => {
    const start = performance.now();
    expect(isImageReference(`${'a-'.repeat(500)}!`)).toBe(false);
    expect(isImageReference(`${'a.'.repeat(500)}!`)).toBe(false);
    expect(performance.now() - start).toBeLessThan(200);
  });
});
