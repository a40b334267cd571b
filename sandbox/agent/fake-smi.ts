/** The nvidia-smi of one simulated machine as a program: a shell script that knows the questions of an agent, and how GPUs fail. */
import { runNvidiaSmi, type ReportedGpus } from '../ssh/gpu-report.ts';

/**
 * What may be wrong with the GPUs of a machine that runs:
 *   gpu_lost          its first GPU fell off the bus (XID 79): questions that name it, and those about all, end with 15
 *   hang              nvidia-smi does not come back
 *   driver_mismatch   the driver was updated under a running system: 18
 *   driver_gone       the kernel module is not loaded: 9
 *   old_driver        no field of a query is known; the XML report works
 *   no_permission     measurements may not be read
 */
export const GPU_TROUBLES = [
  'gpu_lost',
  'hang',
  'driver_mismatch',
  'driver_gone',
  'old_driver',
  'no_permission',
] as const;
export type GpuTrouble = (typeof GPU_TROUBLES)[number];

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
/** Longer than any agent waits, and not for ever, should nobody be left to kill it. */
const HANG_SECONDS = 60;

/**
 * Fields that are none of these are "[N/A]". `-i INDEX`, `-L` and `-q -x` work; anything else is refused with 2. Its trouble, a GpuTrouble
 * or nothing, is read at each call from the file `trouble` in the folder above its own, and how busy its GPUs are from `utilization`.
 */
export function renderFakeSmi(gpus: ReportedGpus): string {
  const table = runNvidiaSmi([`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'], gpus).stdout;
  const list = runNvidiaSmi(['-L'], gpus).stdout;
  return `#!/bin/sh
trouble=
[ ! -f "\${0%/*}/../trouble" ] || trouble=$(cat "\${0%/*}/../trouble")
busy=
[ ! -f "\${0%/*}/../utilization" ] || busy=$(cat "\${0%/*}/../utilization")
query= only= list= xml=
while [ $# -gt 0 ]; do
  case $1 in
    -L) list=yes ;;
    -q) ;;
    -x) xml=yes ;;
    --query-gpu=*) query=\${1#--query-gpu=} ;;
    -i) shift; only=$1 ;;
    --format=*) ;;
    *) echo "Invalid combination of input arguments."; exit 2 ;;
  esac
  shift
done
case $trouble in
  hang) exec sleep ${HANG_SECONDS} ;;
  driver_mismatch)
    echo "Failed to initialize NVML: Driver/library version mismatch"
    echo "NVML library version: ${gpus.driverVersion.split('.').slice(0, 2).join('.')}"
    exit 18 ;;
  driver_gone)
    echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running."
    exit 9 ;;
  gpu_lost)
    if [ -z "$only" ] || [ "$only" = 0 ]; then
      echo "Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU"
      exit 15
    fi ;;
  old_driver)
    if [ -n "$query" ]; then
      echo "Field \\"\${query%%,*}\\" is not a valid field to query."
      exit 2
    fi ;;
esac
if [ -n "$list" ]; then
  cat <<'LIST'
${list.trimEnd()}
LIST
  exit 0
fi
if [ -n "$xml" ]; then
  sed "s,<gpu_util>0 %,<gpu_util>\${busy:-0} %," <<'XML'
${renderXml(gpus, table)}
XML
  exit 0
fi
awk -F ', ' -v query="$query" -v known='${FIELDS.join(',')}' -v only="$only" -v trouble="$trouble" -v busy="$busy" '
  BEGIN { n = split(known, names, ","); for (i = 1; i <= n; i++) at[names[i]] = i; wanted = split(query, fields, ",") }
  only == "" || only == $1 {
    line = ""
    for (i = 1; i <= wanted; i++) {
      value = fields[i] in at ? $(at[fields[i]]) : "[N/A]"
      if (busy != "" && fields[i] == "utilization.gpu") value = busy
      if (trouble == "no_permission" && fields[i] ~ /^(memory|utilization|power)[.]/) value = "[Insufficient Permissions]"
      line = line (i > 1 ? ", " : "") value
    }
    print line; found = 1
  }
  END { if (!found) { print "No devices were found"; exit 6 } }' <<'TABLE'
${table.trimEnd()}
TABLE
`;
}

/** As `nvidia-smi -q -x` of a driver 535 (DTD 12), with the elements that somebody may ask for. */
function renderXml(gpus: ReportedGpus, table: string): string {
  const blocks = table
    .trimEnd()
    .split('\n')
    .map((line) => {
      const cells = line.split(', ');
      const of = (field: string): string => cells[FIELDS.indexOf(field)] ?? 'N/A';
      return `\t<gpu id="${of('pci.bus_id')}">
\t\t<product_name>${of('name')}</product_name>
\t\t<mig_mode>\n\t\t\t<current_mig>N/A</current_mig>\n\t\t\t<pending_mig>N/A</pending_mig>\n\t\t</mig_mode>
\t\t<mig_devices>\n\t\t\tNone\n\t\t</mig_devices>
\t\t<uuid>${of('uuid')}</uuid>
\t\t<performance_state>${of('pstate')}</performance_state>
\t\t<fb_memory_usage>\n\t\t\t<total>${of('memory.total')} MiB</total>\n\t\t\t<used>${of('memory.used')} MiB</used>\n\t\t\t<free>${of('memory.free')} MiB</free>\n\t\t</fb_memory_usage>
\t\t<utilization>\n\t\t\t<gpu_util>${of('utilization.gpu')} %</gpu_util>\n\t\t\t<memory_util>${of('utilization.memory')} %</memory_util>\n\t\t</utilization>
\t\t<temperature>\n\t\t\t<gpu_temp>${of('temperature.gpu')} C</gpu_temp>\n\t\t\t<memory_temp>N/A</memory_temp>\n\t\t</temperature>
\t\t<gpu_power_readings>\n\t\t\t<power_draw>${of('power.draw')} W</power_draw>\n\t\t\t<current_power_limit>${of('power.limit')} W</current_power_limit>\n\t\t</gpu_power_readings>
\t</gpu>`;
    });
  return `<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
\t<driver_version>${gpus.driverVersion}</driver_version>
\t<cuda_version>${gpus.cudaVersion}</cuda_version>
\t<attached_gpus>${gpus.count}</attached_gpus>
${blocks.join('\n')}
</nvidia_smi_log>`;
}
