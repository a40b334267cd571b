/**
 * A Kubernetes cluster of our own: k3s on hosts over SSH, one server and any number of agents, from an artefact that is run only with
 * the right checksum; or one that exists already, by its kubeconfig. The kubeconfig is secret either way.
 */
import { secret, type Input, type Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions } from '@pulumi/pulumi/resource.js';
import type { StackTags } from '../domain/stack-tags.ts';
import { K3sNode, type K3sNodeArgs } from '../providers-dynamic/k3s/resource.ts';
import { OnPremHost, type OnPremHostArgs } from './onprem-host.ts';

export interface OnPremClusterHost extends Omit<OnPremHostArgs, 'tags' | 'agent'> {
  /** In the cluster, 1 to 32 lower-case letters, digits and dashes. Another name is another host. */
  name: string;
}

/** Nothing here costs money: the machines are there already. */
export interface OnPremClusterArgs {
  tags: StackTags;
  /** The first is the server when k3s is installed. @default [] */
  hosts?: OnPremClusterHost[];
  /** Install k3s on the hosts. Exactly one of `k3s` and `kubeconfig` is given. @default none */
  k3s?: Pick<K3sNodeArgs, 'artefactUrl' | 'artefactSha256' | 'apiPort' | 'installDir' | 'dataDir'>;
  /** Of a Kubernetes or OpenShift cluster that is there already; kept secret. @default none */
  kubeconfig?: Input<string>;
  /** Muster's agent on each host, where there is a control plane. @default true */
  agent?: boolean;
  /** Refuse to delete the server, which holds the cluster's data. @default true */
  protect?: boolean;
}

export class OnPremCluster extends ComponentResource {
  /** Secret. */
  declare readonly kubeconfig: Output<string>;
  /** null: of an existing cluster it stands in the kubeconfig only. */
  declare readonly apiUrl: Output<string> | null;
  readonly hosts: OnPremHost[];
  /** What must be there before anything goes into the cluster. */
  readonly nodes: K3sNode[];

  constructor(name: string, args: OnPremClusterArgs, options?: ComponentResourceOptions) {
    super('muster:onprem:Cluster', name, {}, options);
    const { tags, hosts = [], k3s, kubeconfig, agent = true, protect = true } = args;
    if ((k3s === undefined) === (kubeconfig === undefined))
      throw new Error(`${name}: give exactly one of k3s and kubeconfig`);
    const parts = hosts.map((host) => ({ ...host, part: `${name}-${host.name}` }));
    this.hosts = parts.map(
      ({ part, name: _name, ...host }) => new OnPremHost(part, { ...host, tags, agent }, { parent: this }),
    );
    this.nodes = [];
    if (k3s === undefined) {
      this.apiUrl = null;
      this.kubeconfig = secret(kubeconfig as Input<string>);
    } else {
      const server = this.#installK3s(parts, k3s, protect);
      this.apiUrl = server.url;
      this.kubeconfig = secret(server.kubeconfig.apply((text) => text ?? ''));
    }
    this.registerOutputs({ kubeconfig: this.kubeconfig, ...(this.apiUrl === null ? {} : { apiUrl: this.apiUrl }) });
  }

  #installK3s(
    parts: (OnPremClusterHost & { part: string })[],
    k3s: NonNullable<OnPremClusterArgs['k3s']>,
    protect: boolean,
  ): K3sNode {
    const [first, ...others] = parts;
    if (first === undefined) throw new Error('k3s needs at least one host');
    const optionsOf = (index: number) => ({ parent: this, dependsOn: this.hosts[index] as OnPremHost });
    const server = new K3sNode(
      first.part,
      { ...accessOf(first), ...k3s, role: 'server' },
      { ...optionsOf(0), protect },
    );
    const agents = others.map((host, index) => {
      const joins = { serverUrl: server.url, token: server.nodeToken.apply((token) => token ?? '') };
      return new K3sNode(host.part, { ...accessOf(host), ...k3s, ...joins, role: 'agent' }, optionsOf(index + 1));
    });
    this.nodes.push(server, ...agents);
    return server;
  }
}

function accessOf({ address, port, user, hostKeySha256, credentialRef, labels }: OnPremClusterHost) {
  return {
    address,
    hostKeySha256,
    credentialRef,
    ...(port === undefined ? {} : { port }),
    ...(user === undefined ? {} : { user }),
    ...(labels === undefined ? {} : { nodeLabels: labels }),
  };
}
