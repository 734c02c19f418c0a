"""cluster-stack.yaml as an account gets it (moto's): what the cluster's machines may do, and that it is no more."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

boto3 = pytest.importorskip("boto3", reason="pip install '.[cluster,dev]'")
moto = pytest.importorskip("moto", reason="pip install '.[cluster,dev]'")

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = (ROOT / "cluster-stack.yaml").read_text(encoding="utf-8")
CONFIG = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
HEAD, *WORKERS = (kind["node_config"]["IamInstanceProfile"]["Name"] for kind in CONFIG["available_node_types"].values())
BUCKET = "raysearch-123456789012"  # with the number of moto's account


@pytest.fixture(scope="module")
def iam():
    """Of an account with the stack."""
    with moto.mock_aws():
        stacks = boto3.client("cloudformation", region_name=CONFIG["provider"]["region"])
        iam, s3 = boto3.client("iam"), boto3.client("s3")
        stacks.create_stack(StackName="raysearch", TemplateBody=TEMPLATE, Capabilities=["CAPABILITY_NAMED_IAM"])
        assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [BUCKET]
        yield iam


def listed(value):
    return value if isinstance(value, list) else [value]


def allowed(iam, profile):
    """What machines of an instance profile may do: {action: (resources, condition)}."""
    (role,) = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    assert iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"] == []  # all are managed ones
    found = {}
    for attached in iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        for statement in document["Statement"]:
            assert statement["Effect"] == "Allow"
            for action in listed(statement["Action"]):
                assert action not in found
                found[action] = listed(statement["Resource"]), statement.get("Condition")
    return found


OF_THE_BUCKET = {
    "s3:ListBucket": ([f"arn:aws:s3:::{BUCKET}"], None),
    **dict.fromkeys(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], ([f"arn:aws:s3:::{BUCKET}/*"], None)),
}


def test_workers_may_use_the_bucket_and_nothing_else(iam):
    (profile,) = set(WORKERS)
    assert allowed(iam, profile) == OF_THE_BUCKET


def test_the_head_may_use_the_bucket_start_instances_and_end_those_of_its_cluster(iam):
    found = allowed(iam, HEAD)
    assert {action: found.pop(action) for action in OF_THE_BUCKET} == OF_THE_BUCKET
    ours = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": CONFIG["cluster_name"]}}
    assert found.pop("ec2:TerminateInstances") == (["*"], ours)
    role = iam.get_role(RoleName="raysearch-worker")["Role"]["Arn"]
    assert found.pop("iam:PassRole") == ([role], {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}})
    spot = {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}}
    assert found.pop("iam:CreateServiceLinkedRole") == (["*"], spot)
    assert set(found) == {"ec2:Describe*", "ec2:RunInstances", "ec2:CreateTags"}


@pytest.mark.parametrize("profile", sorted({HEAD, *WORKERS}))
def test_only_instances_may_take_the_roles(iam, profile):
    (role,) = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
