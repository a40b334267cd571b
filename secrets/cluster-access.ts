/** How clusters are reached, sealed each to its own row: a sealed value of one cluster does not open as another's. */
import type { ClusterAccess } from '../domain/clusters/kubeconfig.ts';
import type { Envelope } from './envelope.ts';

export function sealAccess(envelope: Envelope, clusterId: string, access: ClusterAccess): string {
  return envelope.seal(JSON.stringify(access), accessIdentity(clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openAccess(envelope: Envelope, clusterId: string, sealed: string): ClusterAccess {
  return JSON.parse(envelope.open(sealed, accessIdentity(clusterId))) as ClusterAccess;
}

export function sealToken(envelope: Envelope, clusterId: string, token: string): string {
  return envelope.seal(token, tokenIdentity(clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openToken(envelope: Envelope, clusterId: string, sealed: string): string {
  return envelope.open(sealed, tokenIdentity(clusterId));
}

/** The token by which agents of the cluster's nodes join. */
export function sealEnrolment(envelope: Envelope, clusterId: string, token: string): string {
  return envelope.seal(token, enrolmentIdentity(clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openEnrolment(envelope: Envelope, clusterId: string, sealed: string): string {
  return envelope.open(sealed, enrolmentIdentity(clusterId));
}

/** What somebody who wants to join proves itself by, until the cluster was asked about it. */
export function sealProof(envelope: Envelope, clusterId: string, proof: string): string {
  return envelope.seal(proof, proofIdentity(clusterId));
}

/** Throws SealError where it was sealed to another cluster. */
export function openProof(envelope: Envelope, clusterId: string, sealed: string): string {
  return envelope.open(sealed, proofIdentity(clusterId));
}

function accessIdentity(clusterId: string): string {
  return `cluster_access.access/${clusterId}`;
}

function tokenIdentity(clusterId: string): string {
  return `cluster_access.token/${clusterId}`;
}

function enrolmentIdentity(clusterId: string): string {
  return `cluster_enrolments.token/${clusterId}`;
}

function proofIdentity(clusterId: string): string {
  return `cluster_joins.proof/${clusterId}`;
}
