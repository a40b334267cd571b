/** How clusters are reached, sealed each to its own row: a sealed value of one cluster does not open as another's. */
import type { ClusterAccess } from '../domain/clusters/kubeconfig.ts';
import type { Envelope } from './envelope.ts';
import { identityAt } from './sealed-place.ts';

export function sealAccess(envelope: Envelope, clusterId: string, access: ClusterAccess): string {
  return envelope.seal(JSON.stringify(access), identityAt('cluster_access.access_sealed', clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openAccess(envelope: Envelope, clusterId: string, sealed: string): ClusterAccess {
  return JSON.parse(envelope.open(sealed, identityAt('cluster_access.access_sealed', clusterId))) as ClusterAccess;
}

export function sealToken(envelope: Envelope, clusterId: string, token: string): string {
  return envelope.seal(token, identityAt('cluster_access.token_sealed', clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openToken(envelope: Envelope, clusterId: string, sealed: string): string {
  return envelope.open(sealed, identityAt('cluster_access.token_sealed', clusterId));
}

/** The token by which agents of the cluster's nodes join. */
export function sealEnrolment(envelope: Envelope, clusterId: string, token: string): string {
  return envelope.seal(token, identityAt('cluster_enrolments.token_sealed', clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openEnrolment(envelope: Envelope, clusterId: string, sealed: string): string {
  return envelope.open(sealed, identityAt('cluster_enrolments.token_sealed', clusterId));
}

/** What somebody who wants to join proves itself by, until the cluster was asked about it. */
export function sealProof(envelope: Envelope, clusterId: string, proof: string): string {
  return envelope.seal(proof, identityAt('cluster_joins.proof_sealed', clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openProof(envelope: Envelope, clusterId: string, sealed: string): string {
  return envelope.open(sealed, identityAt('cluster_joins.proof_sealed', clusterId));
}
