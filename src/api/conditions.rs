//! Conditions and their reasons: the complete list that documents and tests are made from.

use strum::{Display, EnumIter, IntoStaticStr};

/// The conditions of a `KafkaExternalAccess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, IntoStaticStr, EnumIter)]
pub enum ConditionType {
    /// The spec and what it refers to can be served.
    Accepted,
    /// Cloud and Kafka agree with the spec.
    Programmed,
    /// Clients reach the brokers, as seen from where the operator stands.
    Reachable,
    /// True: will be looked at again without a change of the spec.
    Progressing,
    /// Accepted and Programmed, and Reachable not False.
    Ready,
}

macro_rules! reasons {
    ($($name:ident: $meaning:literal, $remedy:literal;)*) => {
        /// Why a condition or a broker stands as it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Display, IntoStaticStr, EnumIter)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What the user does about it, in a sentence; empty when there is nothing to do.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

reasons! {
    Accepted: "The spec can be served.", "";
    InvalidSpec: "The spec contradicts itself.", "Correct the field that the message names.";
    StatefulSetNotFound: "The StatefulSet does not exist; addresses are kept.", "Create it, or correct spec.kafka.statefulSet.name.";
    TargetInUse: "An older KafkaExternalAccess serves the same StatefulSet and listener.", "Delete one of the two.";
    ClassNotFound: "The KafkaExternalAccessClass does not exist, or the operator serves single namespaces and so no classes; nothing is touched.", "Correct addresses.classRef.name, or let the platform team create the class.";
    NamespaceNotAllowed: "The class does not allow this namespace (any more); nothing new is bound and nothing is released.", "Let the platform team add the namespace to the class.";
    SecretNotFound: "The Secret with the credential does not exist.", "Create it in the namespace of this object; that of a class is the platform team's.";
    SecretMalformed: "The Secret cannot be used as it is written.", "Correct the key that the message names.";
    TooManyBrokers: "The StatefulSet has more replicas than an object can serve.", "An object serves up to 128 brokers.";
    HostNetworkRefused: "The pods use the node's network, so an address would expose the node.", "Run the brokers without hostNetwork.";
    Programmed: "Cloud and Kafka agree with the spec.", "";
    InProgress: "Steps are outstanding; status.plan lists them.", "";
    PlanOnly: "mode is Plan: steps are outstanding and nothing is written.", "Set spec.mode to Apply to carry status.plan out.";
    WaitingForPod: "The pod has no address yet.", "";
    CredentialsRefused: "The cloud refuses the credential.", "Renew the credential in the Secret.";
    CredentialsForbidden: "The credential lacks a right.", "Grant the right that the message names.";
    CloudUnavailable: "The cloud does not answer; nothing is changed until it does.", "";
    CloudRefused: "The cloud refuses a call.", "See the message.";
    NetworkNotFound: "The network does not exist or is not visible to the credential.", "Correct floatingNetwork or podNetwork.";
    NetworkAmbiguous: "Several networks have that name.", "Use the network's identifier.";
    QuotaExceeded: "The project's quota of floating IPs is used up.", "Raise the quota; the next try is automatic.";
    PoolEmpty: "The external network has no free address.", "Free addresses or extend the pool; the next try is automatic.";
    AddressLimitReached: "The namespace has as many addresses as its class allows.", "Give addresses back, or let the platform team allow more.";
    BandwidthNotAllowed: "The class does not allow that QoS policy or so much bandwidth.", "Ask for less in addresses.bandwidth or brokers[].bandwidth, or let the platform team allow it.";
    QosPolicyNotFound: "The QoS policy does not exist or is not shared with the project.", "Correct bandwidth.qosPolicy, or ask an administrator to share the policy.";
    QosPolicyAmbiguous: "Several QoS policies have that name.", "Use the policy's identifier.";
    QosPolicyNotPermitted: "The credential may not make QoS policies.", "Ask an administrator for the policy that the message names, or for the role manager, or name a policy in bandwidth.qosPolicy.";
    QosPolicyAltered: "Somebody changed the rules of a QoS policy that the operator made.", "Correct its rules, or delete it.";
    MetricsUnreadable: "The brokers' byte counters cannot be read; nothing else depends on them.", "Correct metrics, or let the brokers show the counters that the message names.";
    LimitNotApplied: "The address is the user's own, so its QoS policy is not changed.", "Set the policy on the address yourself.";
    NoRouter: "No router joins the pod network with the external network.", "Attach the pods' subnet to a router with a gateway on the external network.";
    PodWithoutPort: "No port of the project has the pod's address (an overlay network?).", "Run the brokers on a network whose pods have ports.";
    PortAmbiguous: "Several ports have the pod's address.", "Set podNetwork.";
    PortOfAnotherProject: "The pod's port belongs to another project than the credential.", "Use a credential of the port's project.";
    AddressNotFound: "The address to adopt is not in the project.", "Correct brokers[].address.";
    AddressNotAllowed: "The class does not let the namespace adopt that address.", "Correct brokers[].address, or let the platform team add it to adoption.";
    AddressInUse: "The address is bound by somebody else or wanted by an older object.", "Free it, or choose another.";
    AddressMissing: "Provider Static has no address for this broker.", "Set brokers[].address.";
    PortHasForeignAddress: "The pod's port holds an address that is not ours.", "Set brokers[].address to adopt it, or remove it.";
    MarkerLost: "Somebody changed the description of the address.", "Restore the description that the message shows.";
    AddressLost: "The recorded address is not in the cloud any more.", "Set brokers[].address, or annotate kafkaaccess.dev/replace.";
    ProjectChanged: "The credential belongs to another project than the addresses.", "Use a credential of the project in status.projectID.";
    Contested: "Somebody keeps moving the address away.", "Find who moves it; the next try is in 30 minutes.";
    InternalExposed: "The port's security group admits more than the listener from anywhere.", "Narrow the rule that the message names, or set acceptExposure.";
    ReleaseBlocked: "A broker still advertises the address, so it is not released.", "Follow one of the ways out in the message.";
    Idle: "The address is kept for a broker that does not exist now.", "";
    KafkaUnreachable: "The broker does not answer on the internal listener.", "Check that the broker runs.";
    KafkaNeedsTLS: "The internal listener does not speak plain text.", "Set kafka.client.tls.";
    KafkaAuthenticationFailed: "Kafka refuses the operator's user.", "Set or correct kafka.client.sasl.";
    KafkaNotAuthorized: "The operator's user lacks a right in Kafka.", "Grant Describe, DescribeConfigs and AlterConfigs on the cluster; with rollout: Restart also Describe and DescribeConfigs on every topic.";
    ListenerNotApplied: "The broker stored the listener but did not open it; it was removed again.", "See the broker's log; another process may hold the port.";
    ListenerShadowed: "A stored value of the broker hides a newer value of its configuration.", "Delete the stored key that the message names, or revert.";
    ListenerNameTaken: "The broker has a listener of that name already.", "Choose another listener name.";
    ListenerPortTaken: "The listener's port is in use in the pod.", "Choose another port.";
    EndpointTaken: "Another broker advertises the same address and port, or was told to and cannot be asked now.", "Remove it there first, or bring that broker back.";
    PodAddressInListeners: "The broker's listeners contain a pod address, which a stored value would outlive.", "Write listeners without a host.";
    PodAddressAdvertised: "The internal listener advertises an address instead of a name, and pods' addresses change: clients lose the cluster when every pod has moved.", "Advertise names: INTERNAL://$(POD_NAME).SERVICE.NAMESPACE.svc:PORT.";
    RestartRequired: "This Kafka cannot change advertised listeners without a restart.", "Set rollout: Restart to consent to one restart of each broker, or rollout: Manual and follow status.plan.";
    RestartBlocked: "A broker must restart, and now that could cost a partition its availability.", "Remove the cause that the message names; the restarts then go on.";
    TemplateReverted: "Somebody took the listener out of the pod template; it is not put back.", "Merge the patch in status.plan into the manifest that is applied.";
    DynamicLeftovers: "Listener settings are stored in Kafka, and a migration to KRaft would carry them along.", "Set rollout: Restart, which moves them into the pod template.";
    FilesTaken: "A ConfigMap that the operator has not made has the name that the brokers' files need.", "Rename it; with rollout: Restart the ConfigMap STATEFULSET-external-access is the operator's.";
    ListenerSettingsNotUnderstood: "The listener settings cannot be read from the pod template.", "Choose rollout: Manual.";
    ManualStepsOutstanding: "rollout is Manual: status.plan shows what to change.", "Apply the steps; the operator sees when they are done.";
    Advertised: "The broker advertises its address.", "";
    Reachable: "Every broker answers through its address.", "";
    NeverReachedFromHere: "No broker answered through its address yet; from inside the cluster that may be normal.", "Run `kafka-external-access check` where the clients are.";
    NoReport: "No machine outside has reported within five minutes what it sees.", "Run `kafka-external-access check --report` there, or set probe.from to Operator.";
    NotProbed: "Nothing is advertised yet.", "";
    Unreachable: "A broker that answered through its address does not any more.", "See status.brokers.";
    SecurityGroupBlocks: "No security group rule of the pod's port admits the listener's port.", "Add the rule that the message shows.";
    WrongBroker: "Through the address another broker answers.", "";
    BrokerNotRegistered: "A broker runs and is not in the table that clients are told: it is fenced or not registered.", "See its log and the controller's; clients find it again by themselves.";
    CertificateExpiresSoon: "A broker's certificate ends within 30 days; clients are served until then.", "Renew it.";
    CertificateExpired: "A broker's certificate has ended: clients refuse it.", "Renew it.";
    StaleAdvertisement: "A broker's advertised table differs from the spec.", "";
    Reconciling: "Work is under way.", "";
    Retrying: "Something failed and is tried again.", "";
    UpToDate: "Nothing is outstanding.", "";
    Stopped: "Nothing more happens until the spec or what it refers to changes.", "";
    Releasing: "The object is being deleted; its addresses are on the way out.", "";
    OrphanAddress: "The project holds an address with a marker of this cluster whose object does not exist.", "Delete it, or create an object of that name.";
    Ready: "Everything works.", "";
}
