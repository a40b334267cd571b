/** What rows, events and vendors say of the attempts and machines that broken promises name. */
import type { WorldFleet } from './world-fleet.ts';

const LONGEST = 700;

/** Lines to read from top to bottom: rows first, then the events of their operations in order. */
export async function collectEvidence(fleet: WorldFleet, problems: string[]): Promise<string[]> {
  const attemptIds = problems.flatMap((problem) => problem.match(/att_[a-z0-9]{16}/g) ?? []);
  const labels = problems.flatMap((problem) => problem.match(/muster-world-[a-z0-9-]+/g) ?? []);
  const instanceIds = problems.flatMap((problem) => problem.match(/ins_[a-z0-9]{16}/g) ?? []);
  const { pool } = fleet.database;
  const { rows: attempts } = await pool.query<{ stack_id: string; label: string; id: string }>(
    `select a.*, i.status as instance_status from attempts a join instances i on i.id = a.instance_id
     where a.id = any($1) or a.label = any($2) or a.instance_id = any($3)`,
    [attemptIds, labels, instanceIds],
  );
  const stackIds = attempts.map((attempt) => attempt.stack_id);
  const { rows: operations } = await pool.query<{ id: string }>(
    `select id, kind, status, note, error_code, error_detail, failures, created_by, created_at, finished_at, input
     from operations where stack_id = any($1) order by created_at`,
    [stackIds],
  );
  const { rows: events } = await pool.query(
    `select operation_id, at, type, data from operation_events where operation_id = any($1) order by at, seq limit 200`,
    [operations.map((operation) => operation.id)],
  );
  const all = [...labels, ...attempts.map((attempt) => attempt.label)];
  const { rows: findings } = await pool.query(`select * from findings where label = any($1)`, [all]);
  const { rows: usage } = await pool.query(
    `select * from usage_records where attempt_id = any($1) order by attempt_id, started_at`,
    [attempts.map((attempt) => attempt.id)],
  );
  const machines = fleet.vendors.machines().filter((machine) => all.includes(machine.label));
  const sections = { attempts, machines, operations, events, findings, usage, errors: fleet.errors.slice(-5) };
  return [
    `now ${fleet.clock.now().toISOString()}`,
    ...Object.entries(sections).flatMap(([title, rows]) => [`${title}:`, ...rows.map((row) => `  ${show(row)}`)]),
  ];
}

function show(row: unknown): string {
  const known = Object.entries(row as object).filter(([, value]) => value !== null);
  const text =
    typeof row === 'string'
      ? row
      : JSON.stringify(Object.fromEntries(known), (_key, value: unknown) =>
          typeof value === 'bigint' ? String(value) : value,
        );
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
