/**
 * Certificates of a simulated cluster: an authority of its own and a server certificate that it signs, as every Kubernetes has. X.509 is
 * written here (RFC 5280, ECDSA with SHA-256), because node:crypto reads certificates but makes none, and openssl is not everywhere.
 */
import { createPrivateKey, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';

/** PEM. */
export interface StoredAuthority {
  certificate: string;
  key: string;
}

export interface Authority {
  /** PEM. */
  certificate: string;
  /** To be the same one after a restart. */
  stored: StoredAuthority;
  issue(options: { commonName: string; dnsNames: string[]; ipAddresses: string[]; validFrom?: Date; validTo?: Date }): {
    certificate: string;
    key: string;
  };
}

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;

/** @param stored one that was made before. @default a new one */
export function makeAuthority(
  commonName = 'kubernetes',
  stored: StoredAuthority = newAuthority(commonName),
): Authority {
  const signer = createPrivateKey(stored.key);
  const now = Date.now();
  return {
    certificate: stored.certificate,
    stored,
    issue({ commonName: name, dnsNames, ipAddresses, validFrom, validTo }) {
      const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const names = [
        ...dnsNames.map((dns) => tagged(0x82, Buffer.from(dns, 'ascii'))),
        ...ipAddresses.map((ip) => tagged(0x87, Buffer.from(ip.split('.').map(Number)))),
      ];
      const certificate = makeCertificate({
        subject: name,
        issuer: commonName,
        publicKey: pair.publicKey,
        signer,
        from: validFrom ?? new Date(now - HOUR_MS),
        to: validTo ?? new Date(now + YEAR_MS),
        extensions: [extension('551d11', sequence(...names), false)],
      });
      return { certificate, key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
    },
  };
}

function newAuthority(commonName: string): StoredAuthority {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const now = Date.now();
  const certificate = makeCertificate({
    subject: commonName,
    issuer: commonName,
    publicKey: keys.publicKey,
    signer: keys.privateKey,
    from: new Date(now - HOUR_MS),
    to: new Date(now + 10 * YEAR_MS),
    // It is an authority; keyCertSign and cRLSign.
    extensions: [
      extension('551d13', sequence(Buffer.from([0x01, 0x01, 0xff])), true),
      extension('551d0f', Buffer.from([0x03, 0x02, 0x01, 0x06]), true),
    ],
  });
  return { certificate, key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
}

interface CertificateFields {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  signer: KeyObject;
  from: Date;
  to: Date;
  extensions: Buffer[];
}

function makeCertificate(fields: CertificateFields): string {
  // ecdsa-with-SHA256, 1.2.840.10045.4.3.2
  const algorithm = sequence(oid('2a8648ce3d040302'));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40;
  const body = sequence(
    tagged(0xa0, tagged(0x02, Buffer.from([2]))),
    tagged(0x02, serial),
    algorithm,
    nameOf(fields.issuer),
    sequence(timeOf(fields.from), timeOf(fields.to)),
    nameOf(fields.subject),
    fields.publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...fields.extensions)),
  );
  const signature = sign('sha256', body, fields.signer);
  const whole = sequence(body, algorithm, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])));
  const lines = whole.toString('base64').match(/.{1,64}/g) as string[];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

/** One common name: RDNSequence of 2.5.4.3. */
function nameOf(commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(oid('550403'), tagged(0x0c, Buffer.from(commonName, 'utf8')))));
}

/** GeneralizedTime: years past 2049 too. */
function timeOf(time: Date): Buffer {
  return tagged(0x18, Buffer.from(`${time.toISOString().replace(/[-:T]|\.\d{3}Z/g, '')}Z`, 'ascii'));
}

function extension(id: string, value: Buffer, isCritical: boolean): Buffer {
  return sequence(oid(id), ...(isCritical ? [Buffer.from([0x01, 0x01, 0xff])] : []), tagged(0x04, value));
}

function oid(hex: string): Buffer {
  return tagged(0x06, Buffer.from(hex, 'hex'));
}

function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size =
    length < 0x80
      ? [length]
      : length < 0x100
        ? [0x81, length]
        : length < 0x10000
          ? [0x82, length >> 8, length & 0xff]
          : [0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}
