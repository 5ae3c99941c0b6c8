//! What the pods of a workflow refer to: accounts, containers, volumes. A spec and a template have these alike.

use serde_json::Value;

use super::{Kind, References, items};

impl References {
    /// What a Workflow's spec and a template have in common.
    pub(super) fn pod(&mut self, part: &Value) {
        self.need(Kind::ServiceAccount, &part["serviceAccountName"], false);
        self.need(Kind::ServiceAccount, &part["executor"]["serviceAccountName"], false);
        items(&part["volumes"]).for_each(|volume| self.volume(volume));
        self.locks(&part["synchronization"]);
    }

    /// What else a template refers to by itself: its containers and values.
    pub(super) fn task(&mut self, template: &Value) {
        self.need(Kind::PriorityClass, &template["priorityClassName"], false);
        self.container(&template["container"]);
        self.container(&template["script"]);
        let lists = [&template["initContainers"], &template["sidecars"], &template["containerSet"]["containers"]];
        lists.into_iter().flat_map(items).for_each(|container| self.container(container));
        for header in items(&template["http"]["headers"]) {
            self.selector(Kind::Secret, &header["valueFrom"]["secretKeyRef"]);
        }
        self.values(&template["inputs"]);
        self.values(&template["outputs"]);
        self.location(&template["archiveLocation"]);
        self.stores |= template["archiveLocation"]["archiveLogs"] == true;
        self.artifact(&template["data"]["source"]["artifactPaths"]);
        self.artifact(&template["resource"]["manifestFrom"]["artifact"]);
    }

    fn container(&mut self, container: &Value) {
        for variable in items(&container["env"]) {
            self.selector(Kind::ConfigMap, &variable["valueFrom"]["configMapKeyRef"]);
            self.selector(Kind::Secret, &variable["valueFrom"]["secretKeyRef"]);
        }
        for source in items(&container["envFrom"]) {
            self.selector(Kind::ConfigMap, &source["configMapRef"]);
            self.selector(Kind::Secret, &source["secretRef"]);
        }
    }

    fn volume(&mut self, volume: &Value) {
        self.selector(Kind::ConfigMap, &volume["configMap"]);
        self.need(Kind::Secret, &volume["secret"]["secretName"], volume["secret"]["optional"] == true);
        self.need(Kind::PersistentVolumeClaim, &volume["persistentVolumeClaim"]["claimName"], false);
        for source in items(&volume["projected"]["sources"]) {
            self.selector(Kind::ConfigMap, &source["configMap"]);
            self.selector(Kind::Secret, &source["secret"]);
        }
        self.need(Kind::StorageClass, &volume["ephemeral"]["volumeClaimTemplate"]["spec"]["storageClassName"], false);
        self.selector(Kind::Secret, &volume["csi"]["nodePublishSecretRef"]);
        self.need(Kind::Secret, &volume["azureFile"]["secretName"], false);
        // cephfs, cinder, flexVolume, iscsi, rbd, scaleIO, storageos
        for source in volume.as_object().into_iter().flat_map(|volume| volume.values()) {
            self.selector(Kind::Secret, &source["secretRef"]);
        }
    }

    /// A semaphore's size is a ConfigMap's; one of another namespace is for whoever is there to provide.
    fn locks(&mut self, synchronization: &Value) {
        let all = std::iter::once(&synchronization["semaphore"]).chain(items(&synchronization["semaphores"]));
        for semaphore in all.filter(|semaphore| semaphore["namespace"].as_str().is_none_or(str::is_empty)) {
            self.selector(Kind::ConfigMap, &semaphore["configMapKeyRef"]);
        }
    }
}
