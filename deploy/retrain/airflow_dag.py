"""Airflow: retrain every night, then look at the guardrails. Copy into the DAGs folder.

Exit code 20 (the gate refused) fails the task; its retries cost seconds, as they find the version that
was refused.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

ENVIRONMENT = {
    "GOALRANK_MODELS": "/var/lib/goalrank/models",
    "GOALRANK_STORE": "postgresql+psycopg://goalrank@db/goalrank",
}
RETRAIN = "goalrank retrain --data /var/lib/goalrank/data --settings /etc/goalrank/retrain.toml"
CHECK = "goalrank models check --experiments /etc/goalrank/experiments.toml"

with DAG(
    dag_id="goalrank_retrain",
    schedule="15 3 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
) as dag:
    retrain = BashOperator(
        task_id="retrain", bash_command=RETRAIN, env=ENVIRONMENT, append_env=True
    )
    check = BashOperator(
        task_id="check", bash_command=CHECK, env=ENVIRONMENT, append_env=True, retries=0,
        trigger_rule="all_done",
    )  # fmt: skip
    retrain >> check
