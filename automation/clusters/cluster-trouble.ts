/** Why a cluster could not be read, as far as it matters to whoever acts on it; and the one place that reads the client's errors. */

export type ClusterTroubleKind =
  /** Nothing answers there, or too late. */
  | 'unreachable'
  /** Something answers that the cluster's authority has not signed. */
  | 'foreign_certificate'
  /** It does not know us. */
  | 'unauthorized'
  /** It knows us and does not let us. */
  | 'forbidden'
  /** It answers, but not as a Kubernetes API does. */
  | 'no_kubernetes'
  /** Its cloud gives no token. */
  | 'no_token';

/** `message` is for people and holds nothing secret. */
export class ClusterTrouble extends Error {
  readonly kind: ClusterTroubleKind;

  constructor(kind: ClusterTroubleKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ClusterTrouble';
    this.kind = kind;
  }
}

const CERTIFICATE_CODES: Record<string, string> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'is signed by none of the authorities in certificate-authority-data',
  UNABLE_TO_GET_ISSUER_CERT: 'is signed by none of the authorities in certificate-authority-data',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'is signed by none of the authorities in certificate-authority-data',
  SELF_SIGNED_CERT_IN_CHAIN: 'is signed by none of the authorities in certificate-authority-data',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'is signed by itself and not in certificate-authority-data',
  CERT_SIGNATURE_FAILURE: 'is signed by none of the authorities in certificate-authority-data',
  CERT_HAS_EXPIRED: 'has expired',
  CERT_NOT_YET_VALID: 'is not valid yet',
  ERR_TLS_CERT_ALTNAME_INVALID: 'is of another host',
};

/** @param server of the cluster, to be named in the message */
export function troubleOf(error: unknown, server: string): ClusterTrouble {
  if (error instanceof ClusterTrouble) return error;
  const status = statusOf(error);
  if (status === 401) return new ClusterTrouble('unauthorized', 'it refuses our credential (401)', error);
  if (status === 403) return new ClusterTrouble('forbidden', 'our credential may not read it (403)', error);
  if (status !== null)
    return new ClusterTrouble(
      status >= 500 ? 'unreachable' : 'no_kubernetes',
      `${server} answered with status ${status}`,
      error,
    );
  const codes = [...causesOf(error)].flatMap((each) => (typeof each.code === 'string' ? [each.code] : []));
  const certificate = codes.find((code) => code in CERTIFICATE_CODES);
  if (certificate !== undefined) {
    const why = CERTIFICATE_CODES[certificate] as string;
    return new ClusterTrouble('foreign_certificate', `the certificate of ${server} ${why}`, error);
  }
  const names = [...causesOf(error)].map((each) => each.name);
  if (names.includes('TimeoutError') || names.includes('AbortError'))
    return new ClusterTrouble('unreachable', `${server} did not answer in time`, error);
  if (names.includes('SyntaxError'))
    return new ClusterTrouble('no_kubernetes', `${server} does not answer as Kubernetes does`, error);
  const code = codes[0];
  return new ClusterTrouble('unreachable', `${server} does not answer${code === undefined ? '' : ` (${code})`}`, error);
}

/** The client's own error of an answer: its message holds headers and body, so only the number is taken. */
function statusOf(error: unknown): number | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'number' && code >= 100 && code < 600 ? code : null;
}

interface Cause {
  name?: string;
  code?: unknown;
  cause?: unknown;
}

/** At most so deep: a cause may be its own. */
const MAX_DEPTH = 6;

function* causesOf(error: unknown): Generator<Cause> {
  let each = error as Cause | undefined;
  for (let depth = 0; each && typeof each === 'object' && depth < MAX_DEPTH; depth++) {
    yield each;
    each = each.cause as Cause | undefined;
  }
}
