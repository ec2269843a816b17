//! Container images, made by buildah without a daemon.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cache::remove_folder;
use crate::error::{Context, LabError, Result};
use crate::kubernetes::Image;
use crate::packages;
use crate::process::text;
use crate::progress::Progress;

/// Debian packages of the programs that images are made with.
pub(crate) const PACKAGES: [(&str, &str); 1] = [("buildah", "buildah")];
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Bytes that an image of the profile `release` may have at most, without compression.
pub const LARGEST: u64 = 20_000_000;

/// What an image is made of.
pub(crate) struct Recipe<'a> {
    pub name: &'a str,
    pub dockerfile: &'a Path,
    /// What the Dockerfile copies from.
    pub context: &'a Path,
    /// Its ARGs, as `NAME=value`.
    pub arguments: &'a [&'a str],
}

impl Recipe<'_> {
    /// Builds the image into a docker-archive. `scratch` is used, and removed.
    pub(crate) fn build(&self, scratch: &Path, archive: &Path) -> Result<()> {
        let buildah = || {
            let mut command = Command::new("buildah");
            command.args(["--storage-driver", "vfs", "--root"]).arg(scratch);
            command.arg("--runroot").arg(scratch.join("run"));
            command
        };
        let mut build = buildah();
        build.args(["bud", "--isolation", "chroot", "--quiet", "--tag", self.name, "--file"]);
        build.arg(self.dockerfile);
        for argument in self.arguments {
            build.args(["--build-arg", argument]);
        }
        text(build.arg(self.context))?;
        // An archive that is there is not written to.
        if archive.exists() {
            fs::remove_file(archive).to(|| format!("remove {}", archive.display()))?;
        }
        let target = format!("docker-archive:{}:{}", archive.display(), self.name);
        text(buildah().args(["push", "--quiet", self.name, &target]))?;
        text(buildah().args(["rmi", "--all", "--force"]))?;
        remove_folder(scratch)
    }
}

/// Where [`operator`] leaves the image of a checkout.
#[must_use]
pub fn operator_image(checkout: &Path) -> Image {
    let name = format!("localhost/kafka-external-access:{}", env!("CARGO_PKG_VERSION"));
    Image { name, archive: checkout.join("target/image/image.tar") }
}

/// Builds the operator's image from a checkout: the static program by a profile of cargo, and the Dockerfile that
/// everybody else uses.
pub fn operator(checkout: &Path, profile: &str, progress: &Progress) -> Result<Image> {
    packages::ensure(&[PACKAGES[0], (AUTHORITIES, "ca-certificates")])?;
    let image = operator_image(checkout);
    let folder = checkout.join("target/image");
    let out = folder.join("out");
    progress.step("build the static program", |_| {
        text(Command::new(checkout.join("scripts/static.sh")).arg(profile).arg(&out)).map(drop)
    })?;
    let authorities = out.join("ca-certificates.crt");
    fs::copy(AUTHORITIES, &authorities).to(|| format!("copy {AUTHORITIES}"))?;
    let recipe = Recipe {
        name: &image.name,
        dockerfile: &checkout.join("Dockerfile"),
        context: checkout,
        arguments: &["PROGRAM=given"],
    };
    progress.step(&format!("build image {}", image.name), |_| {
        recipe.build(&folder.join("store"), &image.archive)
    })?;
    for file in [&out.join("kafka-external-access"), &image.archive] {
        let size = fs::metadata(file).to(|| format!("look at {}", file.display()))?.len();
        progress.say(&format!("{}: {:.1} MB", file.display(), size as f64 / 1e6));
        small_enough(file, profile, size)?;
    }
    Ok(image)
}

/// Other profiles hold what tests and debuggers need.
fn small_enough(file: &Path, profile: &str, size: u64) -> Result<()> {
    if profile != "release" || size <= LARGEST {
        return Ok(());
    }
    let reason = format!("{size} bytes, and a release may have {LARGEST} at most");
    Err(LabError::Malformed { file: file.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_is_too_large_is_refused() {
        let outcome = |profile, size| small_enough(Path::new("image.tar"), profile, size).is_ok();
        assert!(outcome("release", LARGEST) && outcome("dev", LARGEST + 1));
        assert!(!outcome("release", LARGEST + 1));
    }
}
