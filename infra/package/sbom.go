package main

import (
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// What SPDX says for "we do not say".
const noAssertion = "NOASSERTION"

// writeSBOM writes what is linked into the handler as SPDX 2.3 in JSON (https://spdx.github.io/spdx-spec/v2.3/). Its date is the commit's and its
// namespace holds the handler's hash, so that the same commit has the same document, and another one another.
func (a *app) writeSBOM(w io.Writer) error {
	name := a.self.path + "-" + a.version + "-" + strings.ReplaceAll(a.system, "/", "-")
	self := a.self.describe()
	self.PackageFileName = handler
	self.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: a.hash}}
	self.PrimaryPackagePurpose = "APPLICATION"
	self.PackageComment = "The program, built for " + a.system + "; the checksum is that of the file."
	document := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: name, DocumentNamespace: "https://spdx.org/spdxdocs/" + url.PathEscape(name) + "-" + a.hash,
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: a.self.path + "/infra/package-" + a.version}},
			Created:  a.commit.Format(time.RFC3339), CreatorComment: "The date is that of the commit.",
		},
		Packages:      []*v2_3.Package{self},
		Relationships: []*v2_3.Relationship{relate("DOCUMENT", common.TypeRelationshipDescribe, self.PackageSPDXIdentifier)},
	}
	for _, m := range a.linked {
		p := m.describe()
		p.PrimaryPackagePurpose = "LIBRARY"
		document.Packages = append(document.Packages, p)
		document.Relationships = append(document.Relationships, relate(self.PackageSPDXIdentifier, common.TypeRelationshipDependsOn, p.PackageSPDXIdentifier))
	}
	return json.Write(document, w, json.Indent("  "), json.EscapeHTML(false))
}

var notInID = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

// describe is the module as a package of SPDX. The checksum of go.sum is no checksum of a file, and so none of the package.
func (m module) describe() *v2_3.Package {
	p := &v2_3.Package{
		PackageName: m.path, PackageVersion: m.version, PackageSPDXIdentifier: common.ElementID("Package-" + notInID.ReplaceAllString(m.path, "-")),
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: m.licence, PackageCopyrightText: noAssertion,
		PackageSupplier: &common.Supplier{Supplier: noAssertion}, IsFilesAnalyzedTagPresent: true,
		PackageExternalReferences: []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: "pkg:golang/" + m.path + "@" + url.QueryEscape(m.version),
		}},
	}
	if m.sum != "" {
		p.PackageSourceInfo = "go.sum: " + m.sum + " (SHA-256 over the names and SHA-256 sums of the module's files, in base64; not the checksum of a file)"
	}
	return p
}

func relate(a common.ElementID, how string, b common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.DocElementID{ElementRefID: a}, Relationship: how, RefB: common.DocElementID{ElementRefID: b}}
}
