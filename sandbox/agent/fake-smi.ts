/** The nvidia-smi of one simulated machine as a program: a shell script that knows the queries of an agent. */
import { runNvidiaSmi, type ReportedGpus } from '../ssh/gpu-report.ts';

const FIELDS = [
  'index',
  'uuid',
  'name',
  'pci.bus_id',
  'driver_version',
  'memory.total',
  'memory.used',
  'memory.free',
  'utilization.gpu',
  'utilization.memory',
  'temperature.gpu',
  'power.draw',
  'power.limit',
  'pstate',
  'mig.mode.current',
];

/** Fields that are none of these are "[N/A]". `-i INDEX` and `-L` work; anything else is refused with 2. */
export function renderFakeSmi(gpus: ReportedGpus): string {
  const table = runNvidiaSmi([`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'], gpus).stdout;
  const list = runNvidiaSmi(['-L'], gpus).stdout;
  return `#!/bin/sh
query= only=
while [ $# -gt 0 ]; do
  case $1 in
    -L) cat <<'LIST'
${list.trimEnd()}
LIST
      exit 0 ;;
    --query-gpu=*) query=\${1#--query-gpu=} ;;
    -i) shift; only=$1 ;;
    --format=*) ;;
    *) echo "Invalid combination of input arguments."; exit 2 ;;
  esac
  shift
done
awk -F ', ' -v query="$query" -v known='${FIELDS.join(',')}' -v only="$only" '
  BEGIN { n = split(known, names, ","); for (i = 1; i <= n; i++) at[names[i]] = i; wanted = split(query, fields, ",") }
  only == "" || only == $1 {
    line = ""
    for (i = 1; i <= wanted; i++) line = line (i > 1 ? ", " : "") (fields[i] in at ? $(at[fields[i]]) : "[N/A]")
    print line; found = 1
  }
  END { if (!found) { print "No devices were found"; exit 6 } }' <<'TABLE'
${table.trimEnd()}
TABLE
`;
}
