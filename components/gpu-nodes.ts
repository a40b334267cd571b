/** How our own GPU nodes are marked in a cluster, so that what belongs on them finds them and nothing else does. */

/** On every GPU node that our stacks make, from its first moment; NVIDIA's own labels come minutes later. */
export const GPU_NODE_LABELS: Record<string, string> = { 'muster-node': 'gpu' };

/** What NVIDIA's charts and Kubernetes' device plugins tolerate by themselves. */
export const GPU_TAINT_KEY = 'nvidia.com/gpu';
