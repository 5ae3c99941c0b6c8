//! A cluster that the control cluster's syncer reaches.

use anyhow::{Context, Result};
use argosy_api::SyncMode;
use argosy_api::kubeconfig::{self, ACCOUNT, Endpoint};

use super::account::{self, Grants, MEMBER, Token};
use super::register::{self, Known};
use super::{JoinArgs, Sides, trial};

/// Makes the account there and lets the control cluster know.
pub async fn join(args: &JoinArgs, sides: &Sides, known: &Known, endpoint: &Endpoint) -> Result<()> {
    let wish = super::make_account(args, sides, known, SyncMode::Push).await?;
    let token = token(args, sides).await?;
    let kubeconfig = kubeconfig::compose(&args.name, endpoint, &token.text);
    trial::sign_in(&kubeconfig, &sides.member_uid).await?;
    token.report();
    let secret = known.secret.as_ref();
    register::write_secret(&sides.control, &args.namespace, &args.name, secret, None, &kubeconfig).await?;
    register::write_cluster(&sides.control, &args.name, known.cluster.as_ref(), &wish).await
}

/// Puts a new token into the kubeconfig that is there.
pub async fn renew(args: &JoinArgs, sides: &Sides, known: &Known) -> Result<()> {
    let name = &args.name;
    let (reference, secret) = known.joined(name)?;
    let old = register::kubeconfig(secret, &reference.key)?;
    let namespace = &args.member.member_namespace;
    if let Some(account) = account::objects(namespace, &sides.control_uid, &Grants::NONE, None)?.first() {
        // Another control cluster's account may have the same name.
        account.check(&sides.member, &sides.control_uid, args.force).await?;
    }
    let token = token(args, sides).await?;
    let renewed = kubeconfig::with_token(old, &token.text).with_context(|| {
        format!("the kubeconfig of {name} signs in with no token, so there is none to renew; join it without --renew")
    })?;
    trial::sign_in(&renewed, &sides.member_uid).await?;
    token.report();
    register::write_secret(&sides.control, &args.namespace, name, Some(secret), Some(&reference.key), &renewed).await
}

async fn token(args: &JoinArgs, sides: &Sides) -> Result<Token> {
    account::token(&sides.member, &args.member.member_namespace, ACCOUNT, MEMBER).await
}
